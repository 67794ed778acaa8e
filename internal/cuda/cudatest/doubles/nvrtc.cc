// The double of NVRTC: compiles CUDA C++ with g++ (AGRDIST_FAKE_CXX) into a shared object that the double
// of libcuda runs. Results are kept in AGRDIST_FAKE_CACHE by a hash of all that they
// depend on.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "simt.h"

#define API extern "C" __attribute__((visibility("default")))

enum { SUCCESS, OUT_OF_MEMORY, CREATION_FAILURE, INVALID_INPUT, INVALID_PROGRAM, INVALID_OPTION, COMPILATION, BUILTIN_FAILURE };

// What traps as undefined. A division by zero is a signal on x86-64 and a result on AArch64.
#define UNDEFINED_EVERYWHERE "-fsanitize=alignment,bounds,signed-integer-overflow,shift"
#ifdef __aarch64__
#define UNDEFINED UNDEFINED_EVERYWHERE ",integer-divide-by-zero"
#else
#define UNDEFINED UNDEFINED_EVERYWHERE
#endif

struct Program {
  std::string source, name, log, image;
};

// AGR_STAMP is a hash of the doubles' sources: what was compiled with other doubles
// must not be taken from a cache that knows the compiler by its version.
// lookForRaces tells whether kernels are compiled to tell of their accesses.
static bool lookForRaces() {
  const char *v = getenv("AGRDIST_FAKE_RACES");
  return v && *v;
}

API int nvrtcVersion(int *major, int *minor) {
  *major = 12;
  *minor = 2 * AGR_STAMP + lookForRaces();  // what the one compiles is not what the other does
  return SUCCESS;
}

API const char *nvrtcGetErrorString(int code) {
  static const char *const texts[] = {"NVRTC_SUCCESS", "NVRTC_ERROR_OUT_OF_MEMORY", "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
                                      "NVRTC_ERROR_INVALID_INPUT", "NVRTC_ERROR_INVALID_PROGRAM", "NVRTC_ERROR_INVALID_OPTION",
                                      "NVRTC_ERROR_COMPILATION", "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE"};
  return code >= 0 && code < 8 ? texts[code] : "NVRTC_ERROR";
}

API int nvrtcCreateProgram(Program **p, const char *src, const char *name, int headers, const char *const *, const char *const *) {
  if (!src || headers) return INVALID_INPUT;
  *p = new Program{src, name && *name ? name : "default_program", "", ""};
  return SUCCESS;
}

API int nvrtcDestroyProgram(Program **p) {
  delete *p;
  *p = nullptr;
  return SUCCESS;
}

namespace {

std::string slurp(const std::string &path) {
  std::ifstream f(path, std::ios::binary);
  std::stringstream s;
  s << f.rdbuf();
  return s.str();
}

void spit(const std::string &path, const std::string &text) { std::ofstream(path, std::ios::binary) << text; }

// run starts a program, its output in the file log.
bool run(const std::vector<std::string> &args, const std::string &log) {
  std::vector<char *> argv;
  for (const std::string &a : args) argv.push_back(const_cast<char *>(a.c_str()));
  argv.push_back(nullptr);
  pid_t pid = vfork();
  if (pid == 0) {
    int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// gxx is the compiler: under an emulator, one that runs on the host.
std::string gxx() {
  const char *v = getenv("AGRDIST_FAKE_CXX");
  return v && *v ? v : "g++";
}

// hostLambda finds a generic lambda without __device__, which NVRTC takes for a host
// function and refuses, unless an option says otherwise. g++ has no such notion.
bool hostLambda(const std::string &source, std::string *where) {
  static const std::regex lambda("\\[[=&][^\\]]*\\]\\s*\\([^()]*\\bauto\\b[^()]*\\)\\s*(mutable\\s*)?\\{");
  std::smatch m;
  if (!std::regex_search(source, m, lambda)) return false;
  *where = std::to_string(1 + std::count(source.begin(), m[0].first, '\n'));
  return true;
}

// options splits NVRTC's options into those for g++ and the architecture. It refuses
// what it does not know, as NVRTC does.
int options(int n, const char *const *opts, std::vector<std::string> *gcc, unsigned *arch, bool *device, std::string *log) {
  *device = false;
  *arch = 52;
  for (int i = 0; i < n; i++) {
    std::string o = opts[i];
    std::smatch m;
    if (std::regex_match(o, m, std::regex("(?:--gpu-architecture|-arch)=sm_([0-9]{2,3})a?"))) {
      *arch = (unsigned)std::stoi(m[1]);
    } else if (std::regex_match(o, m, std::regex("(?:--std|-std)=(c\\+\\+(?:14|17|20))"))) {
      gcc->push_back("-std=" + std::string(m[1]));
    } else if (o == "--device-as-default-execution-space" || o == "-default-device") {
      *device = true;
    } else if (o.compare(0, 2, "-D") == 0 || o.compare(0, 15, "--define-macro=") == 0) {
      gcc->push_back("-D" + o.substr(o[1] == 'D' ? 2 : 15));
    } else if (!std::regex_match(o, std::regex("--(fmad|ftz|prec-div|prec-sqrt|maxrregcount)=.*|--extra-device-vectorization|--generate-line-info|-lineinfo|--restrict|-w|--dopt=on|--split-compile=.*"))) {
      *log = "nvrtc: error: invalid value for option or unknown option: " + o + "\n";
      return INVALID_OPTION;
    }
  }
  return SUCCESS;
}

// kernels finds the names of the kernels in preprocessed text, with their bounds.
std::vector<std::pair<std::string, std::string>> kernels(const std::string &text) {
  std::vector<std::pair<std::string, std::string>> list;
  static const std::regex pattern("__global__\\s+((?:__launch_bounds__\\s*\\(([^()]|\\([^()]*\\))*\\)\\s*)?)(?:static\\s+)?void\\s+((?:__launch_bounds__\\s*\\(([^()]|\\([^()]*\\))*\\)\\s*)?)([A-Za-z_][A-Za-z0-9_]*)\\s*\\(");
  for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it) {
    std::string bounds = (*it)[1].length() ? (*it)[1] : (*it)[3];
    size_t open = bounds.find('(');
    bounds = open == std::string::npos ? "0" : bounds.substr(open + 1, bounds.rfind(')') - open - 1);
    list.emplace_back((*it)[5], bounds);
  }
  return list;
}

// finish turns preprocessed CUDA into C++: extern __shared__ arrays become pointers,
// and a table of the kernels is added.
std::string finish(std::string text, const std::vector<std::pair<std::string, std::string>> &list) {
  static const std::regex dynamic("extern\\s+__shared__\\s+((?:__attribute__\\s*\\(\\((?:[^()]|\\([^()]*\\))*\\)\\)\\s*|alignas\\s*\\([^()]*\\)\\s*)?)([A-Za-z_][A-Za-z0-9_ ]*?)\\s+([A-Za-z_][A-Za-z0-9_]*)\\s*\\[\\s*\\]\\s*;");
  text = std::regex_replace(text, dynamic, "$2 *const $3 = ($2 *)agr_dynamic_shared;");
  text = std::regex_replace(text, std::regex("__shared__"), "static");
  text = std::regex_replace(text, std::regex("__launch_bounds__\\s*\\((?:[^()]|\\([^()]*\\))*\\)"), "");
  text = std::regex_replace(text, std::regex("__global__"), "");
  std::string table = "\nstatic const agr_kernel agr_table[] = {\n";
  int i = 0;
  for (const auto &k : list) {
    std::string n = std::to_string(i++), f = k.first;
    text += "\nstatic void agr_call_" + n + "(void **p) { agr_call(&" + f + ", p); }";
    table += "  {\"" + f + "\", agr_call_" + n + ", agr_arity(&" + f + "), agr_sizes_of(&" + f + "), agr_first(" + k.second + ")},\n";
  }
  return text + "\nstatic constexpr int agr_first(int n, ...) { return n; }" + table + "  {0, 0, 0, 0, 0}};\n" +
         "extern \"C\" __attribute__((visibility(\"default\"))) const agr_module agr_module = {&agr_thread, &agr_block, &agr_block_dim, "
         "&agr_grid_dim, &agr_rt, agr_dynamic_shared, (int)sizeof agr_dynamic_shared, agr_table, " +
         std::to_string(list.size()) + "};\n";
}

std::string cacheFile(const std::string &all) {
  const char *dir = getenv("AGRDIST_FAKE_CACHE");
  if (!dir || !*dir) return "";
  unsigned long long a = 0xcbf29ce484222325ull, b = 0x9e3779b97f4a7c15ull;
  for (unsigned char c : all) a = (a ^ c) * 0x100000001b3ull, b = (b + c) * 0xff51afd7ed558ccdull, b ^= b >> 29;
  char name[64];
  snprintf(name, sizeof name, "/%016llx%016llx.so", a, b);
  return dir + std::string(name);
}

// besides is a file in the directory of another.
std::string besides(const char *path, const char *name) {
  std::string dir = path ? path : "";
  return dir.substr(0, dir.rfind('/') + 1) + name;
}

// build compiles in the directory tmp and returns the shared object, or an empty
// string and the log.
std::string build(const Program &p, const std::vector<std::string> &opts, unsigned arch, const std::string &tmp, std::string *log) {
  const char *prelude = getenv("AGRDIST_FAKE_PRELUDE");
  const bool races = lookForRaces();
  const std::string hooks = races ? "\n#include \"" + besides(prelude, "kernel_races.h") + "\"\n" : "";
  spit(tmp + "/source.cu", "#include \"" + std::string(prelude ? prelude : "") + "\"\n#line 1 \"" + p.name + "\"\n" + p.source + hooks);
  // __shared__ stays for finish to see.
  std::vector<std::string> args = {gxx(), "-E", "-x", "c++", "-std=c++17", "-nostdinc", "-DAGR_ARCH=" + std::to_string(arch),
                                   tmp + "/source.cu", "-o", tmp + "/source.ii"};
  args.insert(args.end() - 3, opts.begin(), opts.end());
  if (!run(args, tmp + "/log")) return *log = slurp(tmp + "/log"), "";
  std::string text = slurp(tmp + "/source.ii");
  spit(tmp + "/source.cc", finish(text, kernels(text)));
  args = {gxx(), "-x", "c++", "-std=c++17", "-O1", "-g0", "-fPIC", races ? "-c" : "-shared", "-pthread", "-ffp-contract=off", "-fno-strict-aliasing",
          "-fno-exceptions", "-fno-rtti", "-fno-gnu-unique", "-fvisibility=hidden", "-fno-threadsafe-statics", "-fpreprocessed",
          races ? "-fsanitize=thread" : UNDEFINED, "-fsanitize-undefined-trap-on-error",
          "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-unknown-pragmas", "-Wno-array-bounds",
          "-U_FORTIFY_SOURCE", "-Wl,-Bsymbolic", tmp + "/source.cc", "-o", tmp + (races ? "/kernels.o" : "/kernels.so")};
  if (races)  // a switch of gcc's, in two words
    args.insert(args.end() - 3, {"--param", "tsan-instrument-func-entry-exit=0", "-Wno-tsan"});
  else
    args.push_back("-lm");
  for (const std::string &o : opts)
    if (o.compare(0, 5, "-std=") == 0) args[3] = o;
  bool ok = run(args, tmp + "/log");
  // Linked by itself: gcc would add libtsan.
  if (ok && races) ok = run({gxx(), "-shared", "-Wl,-Bsymbolic", tmp + "/kernels.o", "-o", tmp + "/kernels.so", "-lm"}, tmp + "/log");
  *log = slurp(tmp + "/log");
  return ok ? slurp(tmp + "/kernels.so") : "";
}

}  // namespace

API int nvrtcCompileProgram(Program *p, int n, const char *const *opts) {
  if (!p) return INVALID_PROGRAM;
  std::vector<std::string> gcc;
  unsigned arch;
  bool device;
  if (int code = options(n, opts, &gcc, &arch, &device, &p->log)) return code;
  std::string line;
  if (!device && hostLambda(p->source, &line)) {
    p->log = p->name + "(" + line + "): error: a generic lambda without __device__ is a host function; see -default-device\n";
    return COMPILATION;
  }
  std::string all = std::to_string(AGR_STAMP) + "\n" + std::to_string(arch) + (lookForRaces() ? " races\n" : "\n") + p->name + "\n";
  for (const std::string &o : gcc) all += o + "\n";
  std::string file = cacheFile(all + p->source), object = file.empty() ? "" : slurp(file);
  if (object.empty()) {
    char tmp[] = "/tmp/agrdist-nvrtc-XXXXXX";
    if (!mkdtemp(tmp)) return BUILTIN_FAILURE;
    object = build(*p, gcc, arch, tmp, &p->log);
    for (const char *f : {"/source.cu", "/source.ii", "/source.cc", "/kernels.so", "/kernels.o", "/log"}) unlink((tmp + std::string(f)).c_str());
    rmdir(tmp);
    if (object.empty()) return COMPILATION;
    if (!file.empty()) {
      std::string part = file + "." + std::to_string(getpid());
      spit(part, object);
      rename(part.c_str(), file.c_str());
    }
  }
  agr_image header{};
  memcpy(header.magic, AGR_IMAGE_MAGIC, sizeof header.magic);
  header.arch = arch;
  header.size = object.size();
  p->image = std::string((const char *)&header, sizeof header) + object;
  return SUCCESS;
}

API int nvrtcGetProgramLogSize(Program *p, size_t *n) { return *n = p->log.size() + 1, SUCCESS; }
API int nvrtcGetProgramLog(Program *p, char *to) { return memcpy(to, p->log.c_str(), p->log.size() + 1), SUCCESS; }
API int nvrtcGetCUBINSize(Program *p, size_t *n) { return *n = p->image.size(), SUCCESS; }
API int nvrtcGetCUBIN(Program *p, char *to) { return memcpy(to, p->image.data(), p->image.size()), SUCCESS; }
