// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A program that found the installed library.
#include "../use.hpp"

int main() { return scan_works() && product_works() ? 0 : 1; }
