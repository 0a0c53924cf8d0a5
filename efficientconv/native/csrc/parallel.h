// Loops shared out between threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

namespace efficientconv {

// Defined where the kernels are used: by torch's threads in bindings.cpp, by the driver's own in the sanitizers' run, so that
// the kernels themselves need no torch. f(thread) is called once for each of n threads.
int64_t thread_count();
void on_threads(int64_t n, const std::function<void(int64_t)>& f);

// A part of a loop, of which one thread takes the first half of what is left, again and again, and others may too.
class alignas(64) Range {
 public:
  void set(int64_t begin, int64_t end) { next_ = begin, end_ = end; }

  template <class F>
  void run(int64_t grain, const F& f) {
    for (int64_t begin = next_; begin < end_;) {
      const int64_t end = std::min(end_, begin + std::max(grain, (end_ - begin) / 2));
      if (!next_.compare_exchange_weak(begin, end)) continue;
      f(begin, end);
      begin = next_;
    }
  }

 private:
  std::atomic<int64_t> next_ = 0;
  int64_t end_ = 0;
};

// f(begin, end) for ranges that make up [0, n), on as many threads as there are `grain` items for. A thread that is done with its
// share helps with the others': processors seldom are equally fast. Where ranges are cut depends on n, grain and the number of
// threads alone, who gets them on the moment: what f computes must not depend on the thread.
template <class F>
void parallel(int64_t n, int64_t grain, const F& f) {
  const int64_t threads = std::min(thread_count(), (n + grain - 1) / grain);
  if (threads <= 1) {
    if (n > 0) f(int64_t{0}, n);
    return;
  }
  std::vector<Range> ranges(threads);
  for (int64_t t = 0; t < threads; ++t) ranges[t].set(n * t / threads, n * (t + 1) / threads);
  on_threads(threads, [&](int64_t thread) {
    for (int64_t i = 0; i < threads; ++i) ranges[(thread + i) % threads].run(grain, f);
  });
}

}  // namespace efficientconv
