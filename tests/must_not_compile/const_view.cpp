// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A const view where a mutable one is wanted: the direction of an operand is in its type.
// must say: write(v)
#include "mlmamba/core/view.hpp"
using namespace mlmamba;
void write(out<cpu_f32, 2>);
#if defined(CONTROL)
void test(out<cpu_f32, 2> v) { write(v); }
#else
void test(in<cpu_f32, 2> v) { write(v); }
#endif
