// f(begin, end) over [0, n) on torch's threads, `grain` items at least for each.
#pragma once

#include <ATen/Parallel.h>

namespace efficientconv {

inline int64_t thread_count() { return at::get_num_threads(); }

template <class F>
void parallel(int64_t n, int64_t grain, const F& f) {
  at::parallel_for(0, n, grain, f);
}

}  // namespace efficientconv
