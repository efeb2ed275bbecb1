// Makes a run that hangs say where. Waits for copies, operations of tiers and writes of the run's files are watched;
// when nothing has moved for too long, all that are under way are named.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "memo/base/units.h"
#include "memo/exec/executor.h"
#include "memo/exec/tier.h"

namespace memo::exec {

class Watchdog {
 public:
  using Name = std::function<std::string()>;

  // `stalled` is called once, on a thread of its own, when something was under way for `bound` and nothing has moved.
  // It must end the process: a thread that hangs in the kernel cannot be stopped.
  Watchdog(Seconds bound, std::function<void(const std::string&)> stalled);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

  // While the guard lives, something is under way; its end is progress. `name` is called on the watchdog's thread. Does
  // nothing if `dog` is null.
  class Guard {
   public:
    Guard(Watchdog* dog, Name name);
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard();
    void moved();  // notes progress before the end

   private:
    Watchdog* const dog_;
    std::list<Name>::iterator place_;
  };

 private:
  using Time = std::chrono::steady_clock;
  void watch();

  const Time::duration bound_;
  const std::function<void(const std::string&)> stalled_;
  std::mutex mutex_;  // guards all members below, except the thread
  std::condition_variable stop_;
  std::list<Name> under_way_;
  Time::time_point moved_;  // the last progress, or the first begin after a pause
  bool stopping_ = false;
  std::thread thread_;  // last, since it uses the other members
};

// Watches the waits for copies of `program`, and each operation of a store. The arguments must outlive the result.
std::unique_ptr<CopyEngine> watched(CopyEngine& engine, Watchdog& dog, const plan::Program& program,
                                    const model::Dataflow& flow);
std::unique_ptr<TierStore> watched(std::unique_ptr<TierStore> store, Watchdog& dog, std::string name);

}  // namespace memo::exec
