// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Files and folders that are written: whole, or not at all.
#include <filesystem>

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/io/output_folder.hpp"
#include "mlmamba/io/write_file.hpp"

using namespace mlmamba;

TEST_SUITE("output_test") {
  TEST_CASE("write_file replaces whole files or leaves none") {
    test::temporary_folder folder;
    write_file(folder / "a", "one");
    write_file(folder / "a", "two");
    CHECK(test::slurp(folder / "a") == "two");
    {
      atomic_file unfinished(folder / "a");
      unfinished.append("half");
    }
    CHECK(test::slurp(folder / "a") == "two");
    CHECK(folder.count() == 1);
    CHECK_THROWS_AS(write_file(folder / "no/such/folder", "x"), io_error);
    std::filesystem::create_directory(folder / "d");
    CHECK_THROWS_AS(write_file(folder / "d", "x"), io_error);
    CHECK(folder.count() == 2);
  }
  TEST_CASE("a folder that was made goes if the work fails, one that was there stays") {
    test::temporary_folder folder;
    const auto inner = folder / "a/b/c/";
    {
      output_folder to(inner);
      write_file(to.path() / "x", "one");
    }
    CHECK(folder.count() == 0);
    {
      output_folder to(inner);
      write_file(folder / "a/mine", "of somebody else");
    }
    CHECK(std::filesystem::exists(folder / "a/mine"));
    CHECK_FALSE(std::filesystem::exists(folder / "a/b"));
    {
      output_folder to(inner);
      write_file(to.path() / "x", "one");
      to.keep();
    }
    { const output_folder to(inner); }
    {
      const output_folder shared(folder / "results/x", true);
      write_file(folder / "results/x/answers", "of a run beside this one");
    }
    CHECK(std::filesystem::exists(folder / "results/x/answers"));
    { const output_folder shared(folder / "results/y", true); }
    CHECK_FALSE(std::filesystem::exists(folder / "results/y"));
    CHECK(test::slurp(inner / "x") == "one");
    write_file(folder / "file", "x");
    CHECK_THROWS_AS(output_folder(folder / "file"), io_error);
    CHECK_THROWS_AS(output_folder(folder / "file/below"), io_error);
    std::filesystem::create_symlink(folder / "nowhere/at/all", folder / "link");
    CHECK_THROWS_AS(output_folder(folder / "link"), io_error);
    CHECK(std::filesystem::is_symlink(folder / "link"));
    CHECK(folder.count() == 4);
  }
  TEST_CASE("what can't be written is known before") {
    test::temporary_folder folder;
    write_file(folder / "a", "one");
    check_writable(folder / "a");
    check_writable(folder / "b");
    CHECK(test::slurp(folder / "a") == "one");
    CHECK(folder.count() == 1);
    CHECK_THROWS_AS(check_writable(folder / "."), io_error);
    CHECK_THROWS_AS(check_writable(folder / "no/such"), io_error);
  }
}
