// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The scan lab: every scan algorithm here (and yours), timed beside its error; see README.md.
#include <cstdio>
#include <iostream>
#include <new>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "mlmamba/io/output_folder.hpp"
#include "scan_lab/measure.hpp"
#include "scan_lab/report.hpp"

namespace {

using namespace mlmamba;

constexpr const char* help = R"(scan_lab: time and error of scan algorithms, forward and backward.
  scan_lab [--shape B,L,H,P,N[,G]]... [--scan_shape B,L,D,N[,G]]... [--dtype f32|bf16]...
           [--threads N]... [--only REGEX] [--rounds N] [--seconds S] [--out FILE.json]
  scan_lab report FILE.json... [--out PAGE.html]
  scan_lab list
--shape       sizes of SSD: batch, tokens, heads, channels, states, groups
--scan_shape  sizes of the selective scan: batch, tokens, channels, states, groups
--only        of kind/name, as `list` prints them
--rounds, --seconds  turns of all algorithms (5), and least time of a measurement (0.05)
Without shapes: a layer of 130 million parameters at 512 and 2048 tokens, 1 and all threads, both
dtypes. Results go to FILE.json (scan_lab.json) and, short, to the screen. `report` draws them, and
files of others, as one page: see benchmarks/scan_lab/README.md.
Exit code: 0 done, 2 bad option or file.
)";

[[noreturn]] void wrong(const std::string& what) {
  fail<error>("scan_lab: ", what, "; see --help");
}

std::vector<index_t> numbers(const std::string& text, std::size_t least, std::size_t most) {
  std::vector<index_t> v;
  std::stringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    std::size_t used = 0;
    index_t n = 0;
    try {
      n = std::stoll(part, &used);
    } catch (const std::exception&) {
    }
    if (used != part.size() || n < 1 || n > 1 << 24)
      wrong("\"" + text + "\": wanted are numbers from 1 on, with commas");
    v.push_back(n);
  }
  if (v.size() < least || v.size() > most)
    wrong("\"" + text + "\" has " + std::to_string(v.size()) + " numbers; wanted are " +
          std::to_string(least) + " or " + std::to_string(most));
  if (v.size() < most) v.push_back(1);
  return v;
}

template <class Kind>
void list() {
  for (const auto& a : lab::algorithms<Kind>())
    std::cout << lab::family<Kind>::name << '/' << a.name << (a.f32 ? "  f32" : "")
              << (a.bf16 ? "  bf16" : "") << '\n';
}

void print(const json& rows, std::size_t from) {
  for (std::size_t i = from; i < rows.size(); ++i) {
    const json& r = rows[i];
    std::printf("%-24s %-18s %-34s %-5s %d %-5s %10.3f ms  FMA %4.2f  copy %4.2f  error %.1e",
                r["kind"].get<std::string>().c_str(), r["name"].get<std::string>().c_str(),
                r["shape"].get<std::string>().c_str(), r["dtype"].get<std::string>().c_str(),
                r["threads"].get<int>(), r["cache"].get<std::string>().c_str(),
                1e3 * r["seconds"].get<double>(), r["of_fma"].get<double>(),
                r["of_copy"].get<double>(), json_to<double>(r["error"], "scan_lab", "error"));
    if (r.contains("of_layer")) std::printf("  layer %4.1f %%", 100 * r["of_layer"].get<double>());
    std::printf("\n");
  }
  std::fflush(stdout);
}

struct arguments {
  std::vector<lab::sizes> ssd, scan;
  std::vector<int> threads;
  std::vector<std::string> dtypes, files;
  lab::options options;
  std::string out, given;  // given: an option of measurements, if there is one
};

arguments parse(int argc, char** argv, int first) {
  arguments a;
  for (int i = first; i < argc; ++i) {
    const std::string key = argv[i];
    if (key.rfind("--", 0) != 0) {
      a.files.push_back(key);
      continue;
    }
    if (i + 1 == argc || !*argv[i + 1]) wrong(key + " wants a value");
    const std::string value = argv[++i];
    if (key != "--out") a.given = key;
    if (key == "--shape") {
      const auto v = numbers(value, 5, 6);
      a.ssd.push_back({v[0], v[1], v[2], v[3], v[4], v[5]});
    } else if (key == "--scan_shape") {
      const auto v = numbers(value, 4, 5);
      a.scan.push_back({v[0], v[1], v[2], 1, v[3], v[4]});
    } else if (key == "--dtype") {
      if (value != "f32" && value != "bf16") wrong("--dtype " + value + ": wanted is f32 or bf16");
      a.dtypes.push_back(value);
    } else if (key == "--threads") {
      a.threads.push_back(int(numbers(value, 1, 1)[0]));
    } else if (key == "--rounds") {
      a.options.rounds = int(numbers(value, 1, 1)[0]);
    } else if (key == "--seconds") {
      char* end = nullptr;
      a.options.seconds = std::strtod(value.c_str(), &end);
      if (*end || !(a.options.seconds >= 0 && a.options.seconds < 1e6))
        wrong("--seconds " + value + " is no time");
    } else if (key == "--only") {
      try {
        a.options.only = std::regex(value);
      } catch (const std::regex_error&) {
        wrong("--only " + value + " is no regular expression");
      }
    } else if (key == "--out") {
      a.out = value;
    } else {
      wrong(key + " is not an option");
    }
  }
  return a;
}

template <class Kind>
void measure_all(const arguments& a, const std::vector<lab::sizes>& shapes, json& rows) {
  for (const lab::sizes& s : shapes)
    for (const std::string& dtype : a.dtypes)
      for (const int threads : a.threads) {
        const std::size_t from = rows.size();
        if (dtype == "f32") {
          lab::measure<Kind, cpu_f32>(s, threads, a.options, rows);
        } else {
          lab::measure<Kind, cpu_bf16>(s, threads, a.options, rows);
        }
        print(rows, from);
      }
}

/// Is there anything to measure?
template <class Kind>
bool any_of(const arguments& a, const std::vector<lab::sizes>& shapes) {
  if (shapes.empty()) return false;
  for (const auto& one : lab::algorithms<Kind>())
    for (const std::string& dtype : a.dtypes)
      if ((dtype == "f32" ? bool(one.f32) : bool(one.bf16)) &&
          std::regex_search(std::string(lab::family<Kind>::name) + '/' + one.name, a.options.only))
        return true;
  return false;
}

int run_lab(arguments a) {
  if (!a.files.empty()) wrong("\"" + a.files[0] + "\" is not a command");
  if (a.out.empty()) a.out = "scan_lab.json";
  check_writable(a.out);  // not after minutes
  if (a.ssd.empty() && a.scan.empty())
    for (const index_t length : {512, 2048}) {
      a.ssd.push_back({1, length, 24, 64, 128, 1});
      a.scan.push_back({1, length, 1536, 1, 16, 1});
    }
  if (a.dtypes.empty()) a.dtypes = {"f32", "bf16"};
  if (a.threads.empty()) {
    a.threads = {1};
    if (const int all = int(std::thread::hardware_concurrency()); all > 1) a.threads.push_back(all);
  }
  if (!any_of<lab::kind::ssd>(a, a.ssd) && !any_of<lab::kind::ssd_backward>(a, a.ssd) &&
      !any_of<lab::kind::selective_scan>(a, a.scan) &&
      !any_of<lab::kind::selective_scan_backward>(a, a.scan))
    wrong("no algorithm matches --only");
  json file;
  file["scan_lab"] = 1;  // the version of this format
  file["level"] = backend::simd::to_string(backend::simd::current_cpu_level());
  if (const lab::counters c; !c.why.empty()) {
    file["no_counters"] = c.why;
    std::cerr << "scan_lab: no hardware counters (" << c.why << ")\n";
  }
  json rows = json::array();
  measure_all<lab::kind::ssd>(a, a.ssd, rows);
  measure_all<lab::kind::ssd_backward>(a, a.ssd, rows);
  measure_all<lab::kind::selective_scan>(a, a.scan, rows);
  measure_all<lab::kind::selective_scan_backward>(a, a.scan, rows);
  file["results"] = std::move(rows);
  write_file(a.out, file.dump(1) + "\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "--help" || command == "-h") {
    std::cout << help;
    return 0;
  }
  if (command == "list") {
    if (argc > 2) wrong("list " + std::string(argv[2]) + ": nothing after list is wanted");
    list<lab::kind::ssd>(), list<lab::kind::ssd_backward>();
    list<lab::kind::selective_scan>(), list<lab::kind::selective_scan_backward>();
    return 0;
  }
  if (command == "report") {
    const arguments a = parse(argc, argv, 2);
    if (!a.given.empty()) wrong(a.given + " has no effect on report; wanted are files and --out");
    if (a.files.empty()) wrong("report wants files of results");
    const std::string to = a.out.empty() ? "scan_lab.html" : a.out;
    std::cout << lab::report(a.files, to) << " results in " << to << '\n';
    return 0;
  }
  return run_lab(parse(argc, argv, 1));
} catch (const mlmamba::error& e) {
  std::cerr << e.what() << '\n';
  return 2;
} catch (const std::bad_alloc&) {
  std::cerr << "scan_lab: no memory for these sizes\n";
  return 2;
}
