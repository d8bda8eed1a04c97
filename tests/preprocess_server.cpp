// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// For preprocess.sh: a mirror of small stand-ins on loopback, and hostile archives.
//
//   preprocess_server PORT_FILE COUNT PAUSE    writes its address to PORT_FILE and serves until it
//                                              is killed; PAUSE ms after each 4 KiB; each request
//                                              is a line of standard output
//   preprocess_server --hostile KIND FILE      KIND: path, link, swell, cut
#include <sys/types.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <string>

#include "data_prep/stand_ins.hpp"
#include "io/hub_server.hpp"

using namespace mlmamba::test;

namespace {

std::string hostile(const std::string& kind) {
  const zip_member good{.name = "train2017/" + some_name(1), .contents = some_jpeg(1)};
  if (kind == "path") return make_zip({good, {.name = "../../../escaped", .contents = "x"}});
  if (kind == "link")
    return make_zip(
        {good, {.name = "train2017/l", .contents = "/", .deflate = false, .mode = 0120777}});
  if (kind == "swell")
    return make_zip({good, {.name = "zeros", .contents = std::string(1 << 24, '\0')}});
  if (kind == "cut") return pictures_zip({"train2017"}, 9).substr(0, 3000);
  throw std::runtime_error("\"" + kind + "\"; path, link, swell or cut is wanted");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 4) throw std::runtime_error("three arguments are wanted");
    if (std::string(argv[1]) == "--hostile") {
      spill(argv[3], hostile(argv[2]));
      return 0;
    }
    const auto files = stand_ins(std::stoi(argv[2]));
    const int pause = std::stoi(argv[3]);
    const http_server server([&](const server_request& r) -> server_reply {
      std::cout << r.method << " " << r.target << std::endl;
      const auto at = files.find(r.target.substr(1));
      if (at == files.end()) return {.status = 404};
      server_reply reply = fake_hub::bytes(r, at->second);
      reply.headers.push_back("ETag: \"" + sha256_of(at->second).substr(0, 20) + "\"");
      reply.pause = pause;
      return reply;
    });
    const std::string port = argv[1];
    spill(port + ".new", server.address() + "\n");
    if (std::rename((port + ".new").c_str(), port.c_str()) != 0) return 2;
    for (;;) ::pause();
  } catch (const std::exception& e) {
    std::cerr << "preprocess_server: " << e.what() << '\n';
    return 2;
  }
}
