// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The version of the library, for humans and for #if.
#pragma once

#define MLMAMBA_VERSION 100  // major * 10000 + minor * 100 + patch
#define MLMAMBA_VERSION_STRING "0.1.0"
