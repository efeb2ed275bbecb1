// Starts the process, speaks its protocol, and turns its exceptions into errors.
#include "memo/corpus/tokenizer_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <vector>

#include "memo/base/text.h"
#include "memo/corpus/assets.h"

extern char** environ;

namespace memo::corpus {
namespace {

struct Pipe {
  Descriptor read, write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return run_time_error(fmt::format("cannot start a Python for the tokenizer: {}", std::strerror(errno)));
  return Pipe{Descriptor(ends[0]), Descriptor(ends[1])};
}

// The last line, which in a traceback is the exception itself.
std::string last_line(int fd) {
  std::string text(4096, '\0');
  const off_t size = ::lseek(fd, 0, SEEK_END), begin = std::max<off_t>(0, size - static_cast<off_t>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(0, ::pread(fd, text.data(), text.size(), begin))));
  text.erase(text.find_last_not_of('\n') + 1);
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace

Result<TokenizerProcess> TokenizerProcess::start(const Path& python, const Path& tokenizer, std::int64_t end_token) {
  MEMO_TRY(Pipe requests, make_pipe());
  MEMO_TRY(Pipe answers, make_pipe());
  TokenizerProcess process;
  process.python_ = python;
  process.requests_ = std::move(requests.write);
  process.answers_ = std::move(answers.read);
  process.complaints_ = Descriptor(::memfd_create("complaints", MFD_CLOEXEC));  // unlike a pipe, it never fills up

  posix_spawn_file_actions_t streams;
  posix_spawn_file_actions_init(&streams);
  posix_spawn_file_actions_adddup2(&streams, requests.read.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&streams, answers.write.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&streams, process.complaints_.get(), STDERR_FILENO);
  std::vector<std::string> words{python, "-c", std::string(assets::text_tokens), tokenizer, std::to_string(end_token)};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const int error = ::posix_spawnp(&process.pid_, python.c_str(), &streams, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&streams);
  if (error != 0) {
    process.pid_ = -1;
    return bad_input(
        fmt::format("data.tokenizer: needs Python with the tokenizers library, and {} does not start ({}); "
                    "install both, or give token ids in *.bin",
                    python.string(), std::strerror(error)));
  }
  // The other ends close here, so that reading ends when the process does.
  requests.read = Descriptor();
  answers.write = Descriptor();
  for (char letter = 0; process.read(&letter, 1);) {
    if (letter == '\0') return process;
    process.version_ += letter;
  }
  return process.ended();
}

TokenizerProcess::TokenizerProcess(TokenizerProcess&& other) noexcept
    : python_(std::move(other.python_)),
      version_(std::move(other.version_)),
      pid_(std::exchange(other.pid_, -1)),
      requests_(std::move(other.requests_)),
      answers_(std::move(other.answers_)),
      complaints_(std::move(other.complaints_)) {}

TokenizerProcess::~TokenizerProcess() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

bool TokenizerProcess::read(void* into, std::size_t size) {
  for (auto* at = static_cast<char*>(into); size > 0;) {
    const ssize_t got = ::read(answers_.get(), at, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

tl::unexpected<Error> TokenizerProcess::ended() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  const std::string why = one_line(last_line(complaints_.get()));
  if (WIFEXITED(status) && WEXITSTATUS(status) == 2 && !why.empty()) return bad_input(why);
  if (WIFSIGNALED(status))
    return run_time_error(
        fmt::format("the Python that runs the tokenizer was ended by signal {} ({}); is there enough "
                    "memory?",
                    WTERMSIG(status), ::strsignal(WTERMSIG(status))));
  return run_time_error(fmt::format("{}: the tokenizer failed: {}", python_.string(),
                                    why.empty() ? fmt::format("exit code {}", WEXITSTATUS(status)) : why));
}

Result<int> TokenizerProcess::encode(const Path& text, const std::function<Status(std::string_view)>& write) {
  if (!write_all(requests_.get(), {text.c_str(), text.native().size() + 1})) return ended();
  std::uint32_t width = 0, size = 0;
  if (!read(&width, sizeof width)) return ended();
  std::string piece;
  while (true) {
    if (!read(&size, sizeof size)) return ended();
    if (size == 0) return static_cast<int>(width);
    piece.resize(size);
    if (!read(piece.data(), size)) return ended();
    MEMO_CHECKED(write(piece));
  }
}

}  // namespace memo::corpus
