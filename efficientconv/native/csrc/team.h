// Threads that stay together for all layers of a frozen network. torch's threads begin and end each loop together, which takes
// about half a microsecond: a small network has many loops of a few microseconds.
#pragma once

#include <ATen/Parallel.h>

#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace efficientconv {

class Team {
 public:
  // The team that the calling thread leads, or null.
  static Team*& mine() {
    static thread_local Team* team = nullptr;
    return team;
  }
  int64_t size() const { return static_cast<int64_t>(seats_.size()); }

  // Calls body() on this thread. Meanwhile torch's other threads wait for the loops in it.
  template <class F>
  static void lead(const F& body) {
    const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
    if (threads == 1) return body();
    Team team(threads);
    at::parallel_for(0, threads, 1, [&](int64_t first, int64_t) {
      if (first > 0) return team.work(team.seats_[first]);
      mine() = &team;
      team.guarded(body);
      mine() = nullptr;
      team.over_ = true;
    });
    team.rethrow();
  }

  // Calls f(i) once for each i from 0 to n - 1, which are at most size(). Thread i does so, or this thread if thread i is late.
  void run(int64_t n, const std::function<void(int64_t)>& f) {
    loop_ = &f;
    for (int64_t i = 1; i < n; ++i) seats_[i].state.store(kOffered, std::memory_order_release);
    guarded([&] { f(0); });
    for (int64_t i = 1; i < n; ++i) {
      State offered = kOffered;
      if (seats_[i].state.compare_exchange_strong(offered, kFree)) guarded([&] { f(i); });
      else wait([&] { return seats_[i].state.load(std::memory_order_acquire) == kFree; });
    }
    rethrow();
  }

 private:
  enum State { kFree, kOffered, kTaken };
  struct alignas(64) Seat {  // of one thread
    std::atomic<State> state{kFree};
  };

  explicit Team(int64_t threads) : seats_(threads) {}

  void work(Seat& seat) {
    while (!over_) {
      wait([&] { return seat.state.load(std::memory_order_relaxed) == kOffered || over_; });
      State offered = kOffered;
      if (!seat.state.compare_exchange_strong(offered, kTaken)) continue;
      guarded([&] { (*loop_)(&seat - seats_.data()); });
      seat.state.store(kFree, std::memory_order_release);
    }
  }

  // Where other programs need the cores, a thread that waits long lets them run.
  template <class F>
  static void wait(const F& is_over) {
    constexpr int patience = 2000;
    for (int i = 0; !is_over(); ++i) {
      if (i >= patience) std::this_thread::yield();
#ifdef __x86_64__
      else __builtin_ia32_pause();
#endif
    }
  }

  // Keeps the first exception: a thread must not end while others work for the same loop.
  template <class F>
  void guarded(const F& f) {
    try {
      f();
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  void rethrow() {
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  std::vector<Seat> seats_;
  const std::function<void(int64_t)>* loop_ = nullptr;
  std::atomic<bool> over_ = false;
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace efficientconv
