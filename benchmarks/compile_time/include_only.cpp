// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What does including the library cost a program that uses nothing of it?
#include "mlmamba/mlmamba.hpp"

int main() { return 0; }
