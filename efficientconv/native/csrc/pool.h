// The memory of the kernels' results. New memory from the system costs a page fault for every 4 KiB. The page faults
// can take nearly as long as the layer that fills the memory (measured: 5 of 11 ms). So freed results are kept, up to a
// limit, for the next results.
#pragma once

#include <ATen/EmptyTensor.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>

namespace efficientconv {

class Pool final : public c10::Allocator {
 public:
  // never destroyed: tensors may outlive everything else
  static Pool& get() {
    static Pool* pool = new Pool();
    return *pool;
  }

  c10::DataPtr allocate(size_t bytes) override {
    if (bytes < kLeast) return c10::GetCPUAllocator()->allocate(bytes);
    Buffer* buffer = take(bytes);
    if (!buffer) buffer = new Buffer{c10::alloc_cpu(bytes), bytes};
    used(static_cast<int64_t>(buffer->bytes));
    report(buffer, static_cast<int64_t>(buffer->bytes));
    return {buffer->memory, buffer, &release, c10::Device(c10::kCPU)};
  }

  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

  size_t kept_bytes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return kept_bytes_;
  }

  void empty() {
    const std::lock_guard<std::mutex> lock(mutex_);
    most_in_use_ = in_use_;
    drop_to(0);
  }

 private:
  // kLeast: a smaller result gets its memory from torch.
  static constexpr size_t kLeast = size_t{256} << 10, kMostKept = size_t{512} << 20;

  struct Buffer {
    void* memory;
    size_t bytes;
  };

  // The newest kept buffer that is large enough and at most a quarter too large, or null.
  Buffer* take(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto it = kept_.rbegin(); it != kept_.rend(); ++it)
      if ((*it)->bytes >= bytes && (*it)->bytes <= bytes + bytes / 4) {
        Buffer* found = *it;
        kept_.erase(std::next(it).base());
        kept_bytes_ -= found->bytes;
        return found;
      }
    return nullptr;
  }

  void used(int64_t change) {
    const std::lock_guard<std::mutex> lock(mutex_);
    in_use_ += change;
    most_in_use_ = std::max(most_in_use_, in_use_);
  }

  // Keeps a freed buffer. The limit is twice the most memory that was ever in use at once. That is enough for maps of
  // all sizes in a network, and buffers of sizes that never come again are dropped.
  void keep(Buffer* buffer) {
    const std::lock_guard<std::mutex> lock(mutex_);
    in_use_ -= static_cast<int64_t>(buffer->bytes);
    kept_.push_back(buffer);
    kept_bytes_ += buffer->bytes;
    drop_to(std::min(kMostKept, 2 * static_cast<size_t>(most_in_use_)));
  }

  void drop_to(size_t most) {
    while (kept_bytes_ > most) {
      Buffer* oldest = kept_.front();
      kept_.pop_front();
      kept_bytes_ -= oldest->bytes;
      c10::free_cpu(oldest->memory);
      delete oldest;
    }
  }

  static void release(void* context) {
    auto* buffer = static_cast<Buffer*>(context);
    report(buffer, -static_cast<int64_t>(buffer->bytes));
    get().keep(buffer);
  }

  // lets torch's profiler count these tensors like all others
  static void report(const Buffer* buffer, int64_t change) {
    if (c10::memoryProfilingEnabled())
      c10::reportMemoryUsageToProfiler(buffer->memory, change, 0, 0, c10::Device(c10::kCPU));
  }

  std::mutex mutex_;
  std::list<Buffer*> kept_;
  size_t kept_bytes_ = 0;
  int64_t in_use_ = 0, most_in_use_ = 0;
};

// A float32 tensor on the CPU. Its elements are not set.
inline at::Tensor new_tensor(at::IntArrayRef sizes, at::MemoryFormat format = at::MemoryFormat::Contiguous) {
  return at::Tensor(
      at::detail::empty_generic(sizes, &Pool::get(), c10::DispatchKeySet(c10::DispatchKey::CPU), at::kFloat, format));
}

}  // namespace efficientconv
