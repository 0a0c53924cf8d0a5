// Working memory of a kernel: floats from the start of a cache line on, whatever was there before.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace efficientconv {

class Floats {
 public:
  explicit Floats(int64_t count) : at_(static_cast<float*>(std::aligned_alloc(kLine, (count * sizeof(float) / kLine + 1) * kLine))) {
    if (!at_) throw std::bad_alloc();
  }
  float* get() const { return at_.get(); }
  operator float*() const { return get(); }

 private:
  static constexpr size_t kLine = 64;
  struct Free {
    void operator()(float* at) const { std::free(at); }
  };
  std::unique_ptr<float[], Free> at_;
};

}  // namespace efficientconv
