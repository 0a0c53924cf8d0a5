// Working memory that a thread keeps from call to call, so that no call has to ask the system for memory.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "vec.h"

namespace efficientconv {

// One slot for each use. A thread may use several slots at the same time.
enum Slot { kPanels, kWeights, kGradients, kZipped, kMap, kRows, kReduced, kProjected, kSums, kSlots };

class Scratch {
 public:
  // The sum over all threads. Above kMost bytes, a slot more than twice as large as needed is replaced by a smaller one.
  static inline std::atomic<int64_t> bytes = 0;
  static constexpr int64_t kMost = int64_t{128} << 20;

  static Scratch& of_this_thread() {
    thread_local Scratch scratch;
    return scratch;
  }

  float* get(Slot slot, int64_t floats) {
    Memory& memory = memory_[slot];
    const bool wasteful = memory.floats > 2 * floats && bytes.load(std::memory_order_relaxed) > kMost;
    if (memory.floats < floats || wasteful) memory.resize(round_up(floats, 1024));
    return memory.at;
  }

  // Must not be called while a kernel runs on this thread.
  void empty() {
    for (Memory& memory : memory_) memory.resize(0);
  }

 private:
  struct Memory {
    float* at = nullptr;
    int64_t floats = 0;

    void resize(int64_t wanted) {
      std::free(at);
      bytes -= floats * static_cast<int64_t>(sizeof(float));
      at = nullptr, floats = 0;
      if (wanted == 0) return;
      at = static_cast<float*>(std::aligned_alloc(4096, wanted * sizeof(float)));
      if (!at) throw std::bad_alloc();
      floats = wanted;
      bytes += floats * static_cast<int64_t>(sizeof(float));
    }
    ~Memory() { resize(0); }
  };

  std::array<Memory, kSlots> memory_;
};

inline float* thread_scratch(Slot slot, int64_t floats) { return Scratch::of_this_thread().get(slot, floats); }

}  // namespace efficientconv
