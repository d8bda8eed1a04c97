// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A connector that forgets a member that the concept wants.
// must say: c.backward(ctx, x, s)
#include "mlmamba/models/connector.hpp"
using namespace mlmamba;
template <engine E>
struct forgetful {
  using engine_type = E;
  explicit forgetful(connector_shape) {}
  static void fields(auto&, auto&&) {}
  struct saved {};
  out<E, 3> forward(context_of<E>&, in<E, 3> x, saved&) const;
#if defined(CONTROL)
  out<E, 3> backward(context_of<E>&, in<E, 3> dy, const saved&);
#endif
};
template <connector C>
struct wants_a_connector {};
wants_a_connector<forgetful<exact>> test;
