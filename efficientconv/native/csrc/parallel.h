// Loops whose iterations several threads share.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

namespace efficientconv {

constexpr int64_t kSerial = 128 * 1024;  // elements that one thread copies or adds up as fast as several threads do

// The program around the kernels defines these two, so that the kernels do not need torch: operators.cpp with torch's
// threads, the sanitizers' driver with its own. on_threads calls f(thread) once for each of n threads.
int64_t thread_count();
void on_threads(int64_t n, const std::function<void(int64_t)>& f);

// A part of a loop. Each thread that runs it takes the first half of what is left, again and again, until nothing is left.
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

// Calls f(begin, end) for ranges that make up [0, n), with one thread for each `grain` items, at most all threads. A
// thread that has finished its share helps with the other shares, because processors are seldom equally fast. The
// ranges depend on n, grain and the number of threads alone. The thread that gets a range differs from call to call, so
// that the result of f must not depend on the thread.
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
