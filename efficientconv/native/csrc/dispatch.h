// Connects the operators to PyTorch's dispatcher, autograd and autocast. Where a kernel does not apply, the reference of
// layers/operators.py runs.
#pragma once

#include <ATen/FuncTorchTLS.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include "tensors.h"

namespace efficientconv {

using c10::DispatchKey;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using torch::jit::Stack;

// The keys under which layers/operators.py registers its references. kReference: of convolutions, for all devices.
// kComposite: of whole layers, for all devices and for autograd, which sees the operators inside the layer.
constexpr DispatchKey kReference = DispatchKey::CompositeExplicitAutograd, kComposite = DispatchKey::CompositeImplicitAutograd;

inline c10::OperatorHandle handle_of(const std::string& name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(("efficientconv::" + name).c_str(), "");
}

inline c10::IValue value_of(std::string_view text) { return std::string(text); }
template <class T>
c10::IValue value_of(const T& value) {
  return c10::IValue(value);
}

template <class Out, class... Args>
Out call_reference(const std::string& name, DispatchKey key, const Args&... args) {
  Stack stack{value_of(args)...};
  handle_of(name).callBoxedForDispatchKey(key, stack);
  if constexpr (requires { std::tuple_size<Out>::value; }) return c10::IValue(c10::ivalue::Tuple::create(stack)).to<Out>();
  else return stack.back().to<Out>();
}

// Whether a function transform (torch.func) or forward-mode differentiation sees the tensors. The kernels have no rule for
// either.
inline bool transformed(at::TensorList tensors) {
  return c10::impl::tls_is_dispatch_key_included(DispatchKey::FuncTorchDynamicLayerBackMode) ||
         torch::autograd::isFwGradDefinedTensorList(tensors);
}

// Whether a whole layer may run as one kernel: no tracer, dispatch mode or transform wants to see the operators inside it.
inline bool eager(at::TensorList tensors) {
  constexpr c10::DispatchKeySet others = c10::python_ks | c10::DispatchKeySet(DispatchKey::Functionalize);
  const auto seen = [&](const Tensor& t) { return t.key_set().has_any(others); };
  return !c10::impl::dispatch_mode_enabled() && !transformed(tensors) && std::none_of(tensors.begin(), tensors.end(), seen);
}

inline bool wants_gradient(at::TensorList tensors) {
  return at::GradMode::is_enabled() &&
         std::any_of(tensors.begin(), tensors.end(), [](const Tensor& t) { return t.requires_grad(); });
}

// Whether the gradients are those of a reference: they will be differentiated again, or belong to many outputs at once
// (is_grads_batched).
inline bool wants_reference_gradients(const Tensor& grad) {
  return at::GradMode::is_enabled() || transformed(grad) || grad.key_set().has(DispatchKey::Batched);
}

// The gradients of reference(inputs). They can be differentiated again if gradients are recorded.
template <class F>
variable_list reference_gradients(const variable_list& inputs, const Tensor& grad, F reference) {
  const bool again = at::GradMode::is_enabled();
  const at::AutoGradMode recorded(true);
  // Views, because one input may be computed from another: the gradient of a view leaves that path out.
  variable_list views, wanted, grads(inputs.size());
  for (const Tensor& t : inputs) {
    views.push_back(t.defined() ? t.view_as(t) : t);
    if (t.defined() && t.requires_grad()) wanted.push_back(views.back());
  }
  const variable_list found = torch::autograd::grad({reference(views)}, wanted, {grad}, again, again, true);
  for (size_t i = 0, next = 0; i < inputs.size(); ++i)
    if (inputs[i].defined() && inputs[i].requires_grad()) grads[i] = found[next++];
  return grads;
}

// A convolution under autograd. The operator <name>_backward computes its gradients. All results after the first are
// saved for <name>_backward and have no gradient.
class Differentiable : public torch::autograd::Function<Differentiable> {
 public:
  static variable_list forward(AutogradContext* ctx, at::TensorList tensors, const c10::OperatorHandle& op, const Stack& arguments) {
    Stack stack = arguments;
    {
      at::AutoDispatchBelowADInplaceOrView below;
      op.callBoxed(stack);
    }
    variable_list results, saved = tensors.vec();
    for (const c10::IValue& result : stack) results.push_back(result.toTensor());
    saved.insert(saved.end(), results.begin() + 1, results.end());
    ctx->save_for_backward(saved);
    ctx->mark_non_differentiable({results.begin() + 1, results.end()});
    ctx->saved_data["name"] = op.operator_name().name;
    ctx->saved_data["rest"] = c10::ivalue::Tuple::create({arguments.begin() + tensors.size(), arguments.end()});
    ctx->saved_data["inputs"] = static_cast<int64_t>(tensors.size());
    return results;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const variable_list inputs(saved.begin(), saved.begin() + ctx->saved_data["inputs"].toInt());
    const auto& rest = ctx->saved_data["rest"].toTupleRef().elements();
    const std::string name = ctx->saved_data["name"].toStringRef();
    variable_list found;
    if (at::GradMode::is_enabled()) {
      found = reference_gradients(inputs, grads[0], [&](const variable_list& views) {
        Stack stack(views.begin(), views.end());
        stack.insert(stack.end(), rest.begin(), rest.end());
        c10::Dispatcher::singleton().findSchemaOrThrow(name.c_str(), "").callBoxedForDispatchKey(kReference, stack);
        return stack.front().toTensor();
      });
    } else {
      Stack stack{grads[0]};
      stack.insert(stack.end(), saved.begin(), saved.end());
      stack.insert(stack.end(), rest.begin(), rest.end());
      c10::List<bool> wanted;
      for (size_t i = 0; i < inputs.size(); ++i) wanted.push_back(ctx->needs_input_grad(i));
      stack.emplace_back(wanted);
      c10::Dispatcher::singleton().findSchemaOrThrow((name + "_backward").c_str(), "").callBoxed(stack);
      for (const c10::IValue& grad : stack) found.push_back(grad.toTensor());
    }
    found.resize(inputs.size() + 2);  // `op` and `arguments` have no gradient
    return found;
  }
};

// Runs a convolution for autograd on the CPU. The operator's tensors come first among its arguments.
inline void differentiate(const c10::OperatorHandle& op, c10::DispatchKeySet, Stack* stack) {
  variable_list tensors;
  for (const c10::IValue& value : *stack)
    if (value.isTensor()) tensors.push_back(value.toTensor());
  const auto others = [](const Tensor& t) { return t.scalar_type() != at::kFloat; };
  if (transformed(tensors) || std::any_of(tensors.begin(), tensors.end(), others))
    return op.callBoxedForDispatchKey(kReference, *stack);
  if (!wants_gradient(tensors)) {
    at::AutoDispatchBelowADInplaceOrView below;
    return op.callBoxed(stack);
  }
  const variable_list results = Differentiable::apply(at::TensorList(tensors), op, *stack);
  stack->assign(results.begin(), results.end());
}

// Runs an operator under autocast. It computes in float32, which was measured to be faster than the reference in
// bfloat16. The result has the type of the reference's result.
inline void keep_float32(const c10::OperatorHandle& op, c10::DispatchKeySet, Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(DispatchKey::AutocastCPU);
  const std::optional<int> residual = op.schema().argumentIndexWithName("residual");
  at::ScalarType type = at::autocast::get_autocast_dtype(at::kCPU);
  if (residual && (*stack)[*residual].isTensor()) type = c10::promoteTypes(type, (*stack)[*residual].toTensor().scalar_type());
  const auto low = [](const Tensor& t) { return t.scalar_type() == at::kHalf || t.scalar_type() == at::kBFloat16; };
  const Tensor x = stack->front().toTensor(), x_float = low(x) ? x.to(at::kFloat) : x;  // once, if x is also the residual
  for (c10::IValue& value : *stack)
    if (value.isTensor() && low(value.toTensor())) value = value.toTensor().is_same(x) ? x_float : value.toTensor().to(at::kFloat);
  op.callBoxed(stack);
  if (const Tensor y = stack->front().toTensor(); y.scalar_type() == at::kFloat) stack->front() = y.to(type);
}

}  // namespace efficientconv
