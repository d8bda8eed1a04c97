// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Compiled with -march=native and other optimisation.
#include "../use.hpp"

bool works_elsewhere();
bool works_elsewhere() { return scan_works() && product_works(); }
