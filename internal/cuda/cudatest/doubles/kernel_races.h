// Put behind a kernel source that is compiled with -fsanitize=thread: what gcc calls at
// every access to memory. libtsan is not linked; the double of the driver looks at the
// accesses of a kernel's threads itself (races.cc).
#define AGR_HOOK extern "C" __attribute__((no_sanitize_thread, used))
// A module's own initialisation comes before its first launch.
__attribute__((no_sanitize_thread)) static void agr_accessed(void *p, unsigned n, int write) {
  if (agr_rt) agr_rt->access(p, n, write);
}
#define AGR_ACCESS(n) \
  AGR_HOOK void __tsan_read##n(void *p) { agr_accessed(p, n, 0); } \
  AGR_HOOK void __tsan_write##n(void *p) { agr_accessed(p, n, 1); } \
  AGR_HOOK void __tsan_unaligned_read##n(void *p) { agr_accessed(p, n, 0); } \
  AGR_HOOK void __tsan_unaligned_write##n(void *p) { agr_accessed(p, n, 1); }
AGR_ACCESS(1)
AGR_ACCESS(2)
AGR_ACCESS(4)
AGR_ACCESS(8)
AGR_ACCESS(16)
AGR_HOOK void __tsan_read_range(void *p, unsigned long n) { agr_accessed(p, (unsigned)n, 0); }
AGR_HOOK void __tsan_write_range(void *p, unsigned long n) { agr_accessed(p, (unsigned)n, 1); }
AGR_HOOK void __tsan_init() {}
AGR_HOOK void __tsan_func_entry(void *) {}
AGR_HOOK void __tsan_func_exit() {}
