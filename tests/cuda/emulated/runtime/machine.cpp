// The threads of the emulated runtime's streams: when work runs, and which errors of order they notice.
#include "tests/cuda/emulated/runtime/machine.h"

#include <algorithm>

#include "memo/base/check.h"

namespace memo::cuda::emulated {

Machine& machine() {
  static auto* const the = new Machine;
  return *the;
}

bool& in_host_function() {
  thread_local bool inside = false;
  return inside;
}

std::string& doing() {
  thread_local std::string what;
  return what;
}

bool Point::reached() const { return stream == nullptr || stream->ended >= number; }

void Machine::reset(const Settings& settings) {
  for (const auto& [device, stream] : std::exchange(null_, {})) destroy(*stream);
  const std::lock_guard lock(mutex_);
  MEMO_CHECK(streams_.empty() && device_.empty() && registered_.empty(), "nothing is left of the machine before");
  settings_ = settings;
  made_streams_ = 0;
  calls_.clear();
  waits_.clear();
  failures_.clear();
  omitted_.clear();
  broken_ = cudaSuccess;
  why_broken_.clear();
}

std::shared_ptr<StreamState> Machine::null_stream(int device) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = null_.find(device); found != null_.end()) return found->second;
  }
  auto made = make_stream();
  std::unique_lock lock(mutex_);
  const auto [found, is_new] = null_.emplace(device, made);
  if (is_new) return made;
  auto first = found->second;  // another thread's
  lock.unlock();
  destroy(*made);
  return first;
}

std::shared_ptr<StreamState> Machine::make_stream() {
  const std::lock_guard lock(mutex_);
  auto stream = std::make_shared<StreamState>();
  stream->pace = settings_.pace;
  stream->random.seed(settings_.seed + 1000 * static_cast<std::uint64_t>(made_streams_++));
  stream->most_delay = settings_.most_delay;
  stream->thread = std::thread([this, stream] { work(stream); });
  streams_.insert(stream);
  return stream;
}

void Machine::destroy(StreamState& stream) {
  {
    const std::lock_guard lock(mutex_);
    for (const auto& one : streams_)
      if (one.get() == &stream) demand({one, stream.given});
    stream.stopping = true;
    stream.wake.notify_one();
  }
  stream.thread.join();
  const std::lock_guard lock(mutex_);
  std::erase_if(streams_, [&](const auto& one) { return one.get() == &stream; });
}

void Machine::work(const std::shared_ptr<StreamState>& shared) {
  StreamState& stream = *shared;
  std::unique_lock lock(mutex_);
  const auto may_run = [&] {
    return !stream.queue.empty() && !stream.running &&
           (stream.pace != Pace::late || stream.queue.front().number <= stream.demanded);
  };
  while (true) {
    stream.wake.wait(lock, [&] { return may_run() || (stream.stopping && stream.queue.empty()); });
    if (stream.queue.empty()) return;
    const Point after = stream.queue.front().after;
    progress_.wait(lock, [&] { return after.reached() && (stream.pace != Pace::late || !any_prompt_to_run()); });
    run_front(lock, stream);
  }
}

// Late work comes behind all that prompt streams can run by now, or it would be their threads' turn that decides.
bool Machine::any_prompt_to_run() const {
  return std::ranges::any_of(streams_, [](const auto& stream) {
    return stream->pace == Pace::prompt && !stream->queue.empty() &&
           (stream->running || stream->queue.front().after.reached());
  });
}

void Machine::run_front(std::unique_lock<std::mutex>& lock, StreamState& stream) {
  stream.running = true;
  std::chrono::microseconds pause{0};
  if (stream.pace == Pace::random)
    pause = std::chrono::microseconds(
        std::uniform_int_distribution(-3 * stream.most_delay.count(), stream.most_delay.count())(stream.random));
  if (auto run = std::move(stream.queue.front().run)) {
    lock.unlock();
    if (pause.count() > 0) std::this_thread::sleep_for(pause);
    run();
    run = nullptr;  // what it holds may be given back to the machine
    lock.lock();
  }
  stream.queue.pop_front();
  ++stream.ended;
  stream.running = false;
  stream.wake.notify_one();
  progress_.notify_all();
}

void Machine::give(const std::shared_ptr<StreamState>& stream, std::function<void()> run, Point after) {
  std::unique_lock lock(mutex_);
  if (run) stream->last_work = stream->given + 1;
  push(lock, *stream, std::move(run), std::move(after));
}

void Machine::push(std::unique_lock<std::mutex>& lock, StreamState& stream, std::function<void()> run, Point after) {
  const std::int64_t number = ++stream.given;
  const bool next = stream.queue.empty() && after.reached();
  stream.queue.push_back({number, std::move(run), std::move(after)});
  if (stream.pace == Pace::prompt && next) return run_front(lock, stream);
  stream.wake.notify_one();
  if (stream.pace == Pace::prompt)
    progress_.wait(lock, [&] { return stream.ended >= number || !stream.queue.front().after.reached(); });
}

void Machine::record(const std::shared_ptr<EventState>& event, const std::shared_ptr<StreamState>& stream) {
  std::unique_lock lock(mutex_);
  const std::int64_t recording = ++event->recordings;
  event->point = {stream, stream->early_events ? stream->last_work - 1 : stream->given + 1};
  push(lock, *stream, [this, event, recording] {
    const std::lock_guard inner(mutex_);
    if (event->recordings == recording) event->time = Steady::now();
  });
}

Point Machine::point_of(const EventState& event) {
  const std::lock_guard lock(mutex_);
  return event.point;
}

bool Machine::has_ended(const EventState& event) {
  const std::lock_guard lock(mutex_);
  return event.point.reached();
}

tl::expected<double, cudaError_t> Machine::elapsed(const EventState& start, const EventState& end) {
  const std::lock_guard lock(mutex_);
  for (const EventState* event : {&start, &end}) {
    if (!event->timed || event->point.stream == nullptr) return tl::unexpected(cudaErrorInvalidResourceHandle);
    if (!event->point.reached()) return tl::unexpected(cudaErrorNotReady);
  }
  return std::chrono::duration<double>(end.time - start.time).count();
}

// Late streams run up to `point`, and so does what they wait for.
void Machine::demand(const Point& point) {
  if (point.stream == nullptr || point.number <= point.stream->demanded) return;
  point.stream->demanded = point.number;
  for (const Operation& operation : point.stream->queue)
    if (operation.number <= point.number) demand(operation.after);
  point.stream->wake.notify_one();
}

void Machine::wait(std::unique_lock<std::mutex>& lock, const Point& point) {
  demand(point);
  progress_.wait(lock, [&] { return point.reached(); });
}

void Machine::wait_on_host(const Point& point) {
  std::unique_lock lock(mutex_);
  wait(lock, point);
}

void Machine::wait_for(const std::shared_ptr<StreamState>& stream) {
  std::unique_lock lock(mutex_);
  wait(lock, {stream, stream->given});
}

bool Machine::is_idle(const std::shared_ptr<StreamState>& stream) {
  const std::lock_guard lock(mutex_);
  return stream->ended == stream->given;
}

void Machine::wait_for_all() {
  std::unique_lock lock(mutex_);
  const auto streams = streams_;
  for (const auto& stream : streams) wait(lock, {stream, stream->given});
}

cudaError_t Machine::enter(const std::string& function) {
  if (in_host_function()) return cudaErrorNotPermitted;
  const std::lock_guard lock(mutex_);
  ++calls_[function];
  if (broken_ != cudaSuccess) return broken_;
  for (const std::string& name : {function, std::string()})
    if (const auto found = failures_.find(name); found != failures_.end() && found->second.after-- <= 0)
      return found->second.error;
  return cudaSuccess;
}

bool Machine::omitted(const std::string& function, const StreamState* stream) {
  const std::lock_guard lock(mutex_);
  return omitted_.contains({function, stream}) || omitted_.contains({function, nullptr});
}

void Machine::plant(const std::string& function, const StreamState* stream) {
  const std::lock_guard lock(mutex_);
  omitted_.insert({function, stream});
}

void Machine::fail(const std::string& function, cudaError_t error, int after) {
  const std::lock_guard lock(mutex_);
  failures_[function] = {error, after};
}

void Machine::heal() {
  const std::lock_guard lock(mutex_);
  failures_.clear();
}

void Machine::break_down(cudaError_t error, const std::string& why) {
  const std::lock_guard lock(mutex_);
  broken_ = error;
  if (why_broken_.empty()) why_broken_ = why;
}

std::string Machine::what_broke() {
  const std::lock_guard lock(mutex_);
  return why_broken_;
}

void Machine::note_wait(const std::string& what) {
  const std::lock_guard lock(mutex_);
  ++waits_[doing().empty() ? what : doing() + ": " + what];
}

std::map<std::string, std::int64_t> Machine::waits() {
  const std::lock_guard lock(mutex_);
  return waits_;
}

std::int64_t Machine::calls(const std::string& function) {
  const std::lock_guard lock(mutex_);
  return calls_[function];
}

void Machine::set_pace(StreamState& stream, Pace pace) {
  const std::lock_guard lock(mutex_);
  stream.pace = pace;
  stream.wake.notify_one();
  progress_.notify_all();
}

void Machine::set_early_events(StreamState& stream) {
  const std::lock_guard lock(mutex_);
  stream.early_events = true;
}

}  // namespace memo::cuda::emulated
