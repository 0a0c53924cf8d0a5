// f(begin, end) over [0, n), `grain` items at least for each thread. Defined where the kernels are used: on torch's
// threads in bindings.cpp, on the driver's own in the sanitizers' run, so that the kernels themselves need no torch.
#pragma once

#include <cstdint>
#include <functional>

namespace efficientconv {

int64_t thread_count();
void parallel(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& f);

}  // namespace efficientconv
