// Stream capture, and graphs that repeat what was captured.
#include <pthread.h>

#include <algorithm>

#include "device.h"

API cuStreamBeginCapture_v2(CUstream handle, int mode) {
  Device *d;
  TRY(enter(&d));
  if (mode < 0 || mode > 2) return INVALID_VALUE;
  fakeStream *s = nullptr;
  TRY(streamOf(handle, d, &s));
  if (s == d->streams[0]) return CAPTURE_UNSUPPORTED;  // the legacy stream
  std::lock_guard<std::mutex> lock(s->device->mu);
  if (s->capture) return ILLEGAL_STATE;
  auto c = std::make_shared<Capture>();
  c->graph = new fakeGraph;
  c->mode = mode;
  c->origin = s;
  c->thread = (unsigned long)pthread_self();
  c->streams.push_back(s);
  s->capture = c;
  s->tails.clear();
  s->device->captures.push_back(c);
  return SUCCESS;
}

// joined marks the nodes that come before tails; a recording ends only when these
// are all.
static bool joined(const fakeGraph &g, const std::vector<int> &tails) {
  std::vector<bool> seen(g.nodes.size());
  std::vector<int> todo = tails;
  size_t count = 0;
  while (!todo.empty()) {
    int n = todo.back();
    todo.pop_back();
    if (seen[n]) continue;
    seen[n] = true;
    count++;
    todo.insert(todo.end(), g.nodes[n].after.begin(), g.nodes[n].after.end());
  }
  return count == g.nodes.size();
}

API cuStreamEndCapture(CUstream handle, fakeGraph **graph) {
  Device *d;
  TRY(enter(&d));
  *graph = nullptr;
  fakeStream *s = nullptr;
  TRY(streamOf(handle, d, &s));
  std::lock_guard<std::mutex> lock(s->device->mu);
  std::shared_ptr<Capture> c = s->capture;
  if (!c) return ILLEGAL_STATE;
  if (c->origin != s) {
    c->invalid = CAPTURE_INVALIDATED;
    return CAPTURE_UNMATCHED;
  }
  CUresult code = c->invalid;
  if (!code && c->mode != 2 && c->thread != (unsigned long)pthread_self()) code = CAPTURE_WRONG_THREAD;
  if (!code && !joined(*c->graph, s->tails)) code = CAPTURE_UNJOINED;
  for (fakeStream *o : c->streams) {
    o->capture.reset();
    o->tails.clear();
  }
  auto &all = s->device->captures;
  all.erase(std::remove(all.begin(), all.end(), c), all.end());
  if (code) {
    delete c->graph;
    return code;
  }
  *graph = c->graph;
  return SUCCESS;
}

API cuStreamIsCapturing(CUstream handle, int *status) {
  Device *d;
  TRY(enter(&d));
  fakeStream *s = nullptr;
  TRY(streamOf(handle, d, &s));
  std::lock_guard<std::mutex> lock(s->device->mu);
  *status = !s->capture ? 0 : s->capture->invalid ? 2 : 1;
  return SUCCESS;
}

API cuGraphGetNodes(fakeGraph *g, void **nodes, size_t *count) {
  if (!g || nodes) return INVALID_VALUE;  // only the count
  *count = g->nodes.size();
  return SUCCESS;
}

API cuGraphDestroy(fakeGraph *g) {
  if (!g) return INVALID_VALUE;
  delete g;
  return SUCCESS;
}

struct fakeExec {
  std::shared_ptr<const fakeGraph> graph;
};

API cuGraphInstantiateWithFlags(fakeExec **out, fakeGraph *g, unsigned long long flags) {
  Device *d;
  TRY(enter(&d));
  if (!g || flags & ~1ull) return INVALID_VALUE;
  *out = new fakeExec{std::make_shared<const fakeGraph>(*g)};
  return SUCCESS;
}

API cuGraphExecDestroy(fakeExec *e) {
  if (!e) return INVALID_VALUE;
  delete e;
  return SUCCESS;
}

// runGraph runs the nodes in a random order among those that the dependencies allow.
static CUresult runGraph(Device &d, const fakeGraph &g) {
  std::vector<int> missing(g.nodes.size()), ready;
  std::vector<std::vector<int>> next(g.nodes.size());
  for (int i = 0; i < (int)g.nodes.size(); i++) {
    missing[i] = (int)g.nodes[i].after.size();
    for (int a : g.nodes[i].after) next[a].push_back(i);
    if (!missing[i]) ready.push_back(i);
  }
  while (!ready.empty()) {
    size_t pick = d.random.below((unsigned)ready.size());
    int i = ready[pick];
    ready[pick] = ready.back();
    ready.pop_back();
    const Work &w = g.nodes[i].work;
    if (w.run)
      if (CUresult code = w.run(d)) return complain(code, "in a graph: %s", w.name);
    for (int n : next[i])
      if (--missing[n] == 0) ready.push_back(n);
  }
  return SUCCESS;
}

API cuGraphLaunch(fakeExec *e, CUstream stream) {
  if (!e) return INVALID_VALUE;
  auto g = e->graph;
  return submit(stream, {"graph", [g](Device &d) { return runGraph(d, *g); }, GRAPH});
}
