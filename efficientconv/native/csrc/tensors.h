// Checks tensors and turns them into the kernels' arguments. Each operator checks its tensors once, so that the kernels get
// contiguous float32 maps of fitting sizes.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <mutex>

#include "plan.h"
#include "pool.h"

namespace efficientconv {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

inline MaybeTensor only_if(bool wanted, const Tensor& t) { return wanted ? MaybeTensor(t) : std::nullopt; }
inline MaybeTensor contiguous(const MaybeTensor& t) { return t ? MaybeTensor(t->contiguous()) : t; }

inline bool plain(const Tensor& t) {
  return t.is_cpu() && t.layout() == at::kStrided && t.scalar_type() == at::kFloat && !t.is_neg() && !t._is_zerotensor();
}
inline bool plain(const Tensor& t, at::IntArrayRef sizes) { return plain(t) && t.sizes() == sizes; }
inline bool plain(const MaybeTensor& t, at::IntArrayRef sizes) { return !t || plain(*t, sizes); }
inline bool plain_maps(const Tensor& x) { return plain(x) && x.dim() == 4 && x.numel() > 0; }

inline const float* data(const Tensor& t) { return t.const_data_ptr<float>(); }
inline const float* data(const MaybeTensor& t) { return t ? data(*t) : nullptr; }
inline float* written(const Tensor& t) { return t.mutable_data_ptr<float>(); }

inline Maps maps_of(const Tensor& x) { return {x.size(0), x.size(1), x.size(2), x.size(3)}; }

// The memory order of x, which the result gets too.
inline at::MemoryFormat order_of(const Tensor& x) {
  const bool last = !x.is_contiguous() && x.is_contiguous(at::MemoryFormat::ChannelsLast);
  return last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

// A topology in the form of the operators' arguments. Without dims every output sees every input.
struct Topology {
  static constexpr int64_t kMost = int64_t{1} << 30;  // channels: no product of sizes overflows
  at::IntArrayRef dims, connections;
  std::string_view anchor;

  bool full() const { return dims.empty(); }
  int64_t channels() const { return c10::multiply_integers(dims); }
  int64_t fan() const { return c10::multiply_integers(connections); }
  bool sound() const {
    if (dims.size() != connections.size() || (anchor != "center" && anchor != "corner")) return false;
    int64_t channels = 1;
    for (size_t i = 0; i < dims.size(); ++i) {
      if (connections[i] < 1 || connections[i] > dims[i] || dims[i] > kMost || channels > kMost) return false;
      channels *= dims[i];
    }
    return true;
  }
};

using KeptPlans = std::shared_ptr<const Plans>;

// Makes the plans of each connectivity once and keeps them, up to kMostBytes: then it forgets all of them.
class PlanCache {
 public:
  static PlanCache& get() {
    static PlanCache* cache = new PlanCache();
    return *cache;
  }

  // The plans from `inputs` to `outputs` channels. With a topology the two numbers are equal.
  KeptPlans find(const Topology& topology, int64_t inputs, int64_t outputs, int64_t kernel) {
    std::vector<int64_t> key{kernel, inputs, outputs, topology.anchor == "corner", static_cast<int64_t>(topology.dims.size())};
    for (const at::IntArrayRef sizes : {topology.dims, topology.connections}) key.insert(key.end(), sizes.begin(), sizes.end());
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const auto found = plans_.find(key); found != plans_.end()) return found->second;
    const auto made = std::make_shared<const Plans>(make(topology, inputs, outputs, kernel));
    if (bytes_ + made->bytes() > kMostBytes) {
      TORCH_WARN_ONCE("the plans of the topologies in use take more than 512 MiB; plans are made again where they are needed, which is slow");
      forget();
    }
    bytes_ += made->bytes();
    return plans_[key] = made;
  }

  void empty() {
    const std::lock_guard<std::mutex> lock(mutex_);
    forget();
  }

  int64_t kept_bytes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return bytes_;
  }

 private:
  static constexpr int64_t kMostBytes = 512 << 20;

  void forget() {
    plans_.clear();
    bytes_ = 0;
  }

  static Plans make(const Topology& t, int64_t inputs, int64_t outputs, int64_t kernel) {
    if (t.full() && kernel == 1) return Plans::full(inputs, outputs);
    if (t.full()) return Plans::of(Connections::full(inputs, outputs), inputs, kernel);
    return Plans::of(Connections::of(t.dims, t.connections, t.anchor == "corner"), inputs, kernel);
  }

  std::mutex mutex_;
  std::map<std::vector<int64_t>, KeptPlans> plans_;
  int64_t bytes_ = 0;
};

}  // namespace efficientconv
