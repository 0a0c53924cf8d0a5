// Whether a plan's indices stay inside what it will be used with. Looking at all of them takes longer than many a layer, so what a
// plan needs is found out once, when its tensors are seen first.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>

#include "tile.h"

namespace efficientconv {

// The least that a plan's steps may be used with.
struct PlanNeeds {
  int64_t tiles, rows, weights;  // rows: of a panel; weights: elements, where steps name them
  int64_t tile_steps;            // of the longest tile
};

inline void check_plan(bool fits) { TORCH_CHECK(fits, "efficientconv: a plan that does not fit its convolution"); }

class PlanChecks {
 public:
  // plan: tiles, segments, steps, weights of plan.py
  static PlanNeeds needs(at::TensorList plan) {
    static PlanChecks* checks = new PlanChecks();  // never destroyed, as tensors may not be at the end
    const std::lock_guard<std::mutex> lock(checks->mutex_);
    const Key key{plan[0].unsafeGetTensorImpl(), plan[1].unsafeGetTensorImpl(), plan[2].unsafeGetTensorImpl(),
                  plan[3].unsafeGetTensorImpl()};
    const auto found = checks->seen_.find(key);
    if (found != checks->seen_.end() && found->second.versions == versions(plan)) return found->second.needs;
    const PlanNeeds needs = look(plan);
    if (checks->seen_.size() >= kMostSeen) checks->seen_.clear();
    checks->seen_.insert_or_assign(key, Seen{plan.vec(), versions(plan), needs});
    return needs;
  }

 private:
  using Key = std::array<const c10::TensorImpl*, 4>;
  using Versions = std::array<int64_t, 4>;
  struct Seen {
    std::vector<at::Tensor> tensors;  // kept, so that no other plan gets their addresses
    Versions versions;
    PlanNeeds needs;
  };
  static constexpr size_t kMostSeen = 1024;

  static Versions versions(at::TensorList plan) {
    const auto version = [](const at::Tensor& t) { return t.is_inference() ? int64_t{0} : int64_t{t._version()}; };
    return {version(plan[0]), version(plan[1]), version(plan[2]), version(plan[3])};
  }

  static PlanNeeds look(at::TensorList plan) {
    for (const at::Tensor& t : plan)
      check_plan(t.is_cpu() && t.layout() == at::kStrided && t.scalar_type() == at::kInt && t.is_contiguous());
    const at::Tensor &tiles = plan[0], &segments = plan[1], &steps = plan[2], &weights = plan[3];
    check_plan(tiles.dim() == 1 && tiles.size(0) > 1 && segments.dim() == 2 && segments.size(1) == 3 && steps.dim() == 2 &&
               steps.size(1) == 2);
    PlanNeeds needs{tiles.size(0) - 1, 0, 0, 0};
    look_at_segments(tiles, segments, steps.size(0), needs);
    for (const int32_t offset : values(steps)) {
      check_plan(offset >= 0 && offset % kBlock == 0);
      needs.rows = std::max<int64_t>(needs.rows, offset / kBlock + 1);
    }
    if (weights.dim() == 1) {
      check_plan(weights.size(0) == 2 && values(weights)[0] >= 0 && values(weights)[1] >= 0);
      needs.rows = std::max(needs.rows, needs.tile_steps);
      return needs;
    }
    check_plan(weights.dim() == 2 && weights.size(0) == steps.size(0) && weights.size(1) == kOutputs);
    for (const int32_t element : values(weights)) {
      check_plan(element >= -1);
      needs.weights = std::max<int64_t>(needs.weights, int64_t{element} + 1);
    }
    return needs;
  }

  static void look_at_segments(const at::Tensor& tiles, const at::Tensor& segments, int64_t steps, PlanNeeds& needs) {
    const auto starts = values(tiles), parts = values(segments);
    check_plan(starts[0] == 0 && starts.back() == segments.size(0));
    for (int64_t tile = 0, step = 0; tile < needs.tiles; ++tile) {
      const int64_t before = step;
      check_plan(starts[tile] < starts[tile + 1] && starts[tile + 1] <= segments.size(0));
      for (int64_t s = starts[tile]; s < starts[tile + 1]; ++s) {  // one after the other
        check_plan(parts[3 * s + 1] == step && parts[3 * s + 2] > step && parts[3 * s + 2] <= steps);
        step = parts[3 * s + 2];
      }
      needs.tile_steps = std::max(needs.tile_steps, step - before);
    }
  }

  static c10::ArrayRef<int32_t> values(const at::Tensor& t) {
    return {t.const_data_ptr<int32_t>(), static_cast<size_t>(t.numel())};
  }

  std::mutex mutex_;
  std::map<Key, Seen> seen_;
};

}  // namespace efficientconv
