// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Lines from standard input, and CTRL-C as something that is noticed instead of an end.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "mlmamba/core/error.hpp"

namespace mlmamba::examples {

/// While one of it is there, CTRL-C ends a read or is asked for; a second one that nobody has
/// asked for yet ends the program as ever. One at a time. Errors: error if the system refuses.
class terminal {
 public:
  enum class input { line, interrupted, end };

  terminal() {
    if (::pipe2(signals_, O_CLOEXEC | O_NONBLOCK) != 0)
      fail<error>("terminal: pipe2: ", std::strerror(errno));
    struct sigaction notice {};
    notice.sa_handler = &terminal::on_interrupt;
    ::sigaction(SIGINT, &notice, &before_);
  }
  terminal(const terminal&) = delete;
  terminal& operator=(const terminal&) = delete;
  ~terminal() {
    ::sigaction(SIGINT, &before_, nullptr);
    for (int& end : signals_) ::close(std::exchange(end, -1));
  }

  /// The next line without its end; a last one without an end counts.
  input read(std::string& line) {
    for (;;) {
      if (interrupted()) return input::interrupted;
      if (const auto end = held_.find('\n');
          end != std::string::npos || (over_ && !held_.empty())) {
        line = held_.substr(0, end);
        held_.erase(0, end == std::string::npos ? end : end + 1);
        if (!line.empty() && line.back() == '\r') line.pop_back();
        return input::line;
      }
      if (over_) return input::end;
      pollfd wait[] = {{STDIN_FILENO, POLLIN, 0}, {signals_[0], POLLIN, 0}};
      if (::poll(wait, 2, -1) < 0 || wait[0].revents == 0) continue;  // a signal
      char some[4096];
      const ssize_t n = ::read(STDIN_FILENO, some, sizeof some);
      if (n > 0) held_.append(some, std::size_t(n));
      if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) over_ = true;
    }
  }
  /// Was there a CTRL-C since this was asked last?
  static bool interrupted() {
    char c = 0;
    return ::read(signals_[0], &c, 1) == 1;
  }

 private:
  static void on_interrupt(int) {
    const int error = errno;
    pollfd unread{signals_[0], POLLIN, 0};
    if (::poll(&unread, 1, 0) == 1) {  // the one before was of no use
      ::signal(SIGINT, SIG_DFL);
      ::raise(SIGINT);
    }
    [[maybe_unused]] const ssize_t n = ::write(signals_[1], "", 1);
    errno = error;
  }

  inline static int signals_[2] = {-1, -1};  // a signal handler knows no object
  struct sigaction before_ {};
  std::string held_;  // read, but not yet given
  bool over_ = false;
};

}  // namespace mlmamba::examples
