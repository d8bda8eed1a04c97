// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The one implementation unit of doctest.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
