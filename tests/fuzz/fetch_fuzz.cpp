// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as the answers to a request for a picture at an address: what is fetched
// is never more than was allowed, nor another number of bytes than was announced.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "mlmamba/io/fetch.hpp"
#include "scripted_client.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mlmamba;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t line = std::min(text.find('\n'), size);
  // The first line is the address: as it is, and as a path where the answers are from.
  for (const std::string& address : {std::string(text.substr(0, line)),
                                     "https://hub.test/" + std::string(text.substr(0, line))}) {
    if (!is_address(address)) continue;
    scripted_client client(text.substr(std::min(line + 1, size)));
    try {
      if (fetch(client, address, 300).size() > 300) std::abort();
    } catch (const io_error&) {
    }
  }
  return 0;
}
