// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SHA-256 and SHA-1 on the vectors of their standard, however the bytes are cut.
#include "mlmamba/core/sha.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace mlmamba;

namespace {

template <class Hash>
std::string digest(std::string_view text, std::size_t piece = 1 << 20) {
  Hash h;
  for (std::size_t at = 0; at < text.size(); at += piece) h.update(text.substr(at, piece));
  return h.hex();
}
const std::string two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";

}  // namespace

TEST_SUITE("sha_test") {
  TEST_CASE("the vectors of FIPS 180") {
    CHECK(digest<sha256>("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(digest<sha256>("abc") ==
          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(digest<sha256>(two_blocks) ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(digest<sha256>(std::string(1'000'000, 'a')) ==
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    CHECK(digest<sha1>("") == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    CHECK(digest<sha1>("abc") == "a9993e364706816aba3e25717850c26c9cd0d89d");
    CHECK(digest<sha1>(two_blocks) == "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    CHECK(digest<sha1>(std::string(1'000'000, 'a')) == "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
  }

  TEST_CASE("git's name of an empty and of a small blob") {
    CHECK(digest<sha1>(std::string("blob 0\0", 7)) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    CHECK(digest<sha1>(std::string("blob 6\0", 7) + "hello\n") ==
          "ce013625030ba8dba906f756967f9e9ca394464a");
  }

  TEST_CASE("pieces change nothing, at every length around a block") {
    std::string text;
    for (int i = 0; i < 200; ++i) text += char('0' + i % 70);
    for (std::size_t n : {1u, 54u, 55u, 56u, 57u, 63u, 64u, 65u, 119u, 120u, 128u, 200u})
      for (std::size_t piece : {1u, 3u, 64u, 65u}) {
        INFO(n, " bytes in pieces of ", piece);
        CHECK(digest<sha256>(text.substr(0, n), piece) == digest<sha256>(text.substr(0, n)));
        CHECK(digest<sha1>(text.substr(0, n), piece) == digest<sha1>(text.substr(0, n)));
      }
  }
}
