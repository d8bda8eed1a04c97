// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Compiled without -m flags.
#include "../use.hpp"

bool works_elsewhere();
int main() { return scan_works() && product_works() && works_elsewhere() ? 0 : 1; }
