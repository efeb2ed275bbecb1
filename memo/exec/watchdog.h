// A run that hangs says where. Whoever waits for a copy, moves bytes of one, or writes the run's files is watched; when
// nothing has moved for too long, all that is under way is named.
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

  // `stalled` is called once, on a thread of its own, when for `bound` something was under way and nothing has moved.
  // It is to end the process: a thread that the kernel holds cannot be called back.
  Watchdog(Seconds bound, std::function<void(const std::string&)> stalled);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

  // Something is under way while the guard lives; its end is progress. `name` is asked on the watchdog's thread.
  // Without a dog nobody watches.
  class Guard {
   public:
    Guard(Watchdog* dog, Name name);
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard();
    void moved();  // progress before the end

   private:
    Watchdog* const dog_;
    std::list<Name>::iterator place_;
  };

 private:
  using Time = std::chrono::steady_clock;
  void watch();

  const Time::duration bound_;
  const std::function<void(const std::string&)> stalled_;
  std::mutex mutex_;  // guards all below, but for the thread
  std::condition_variable stop_;
  std::list<Name> under_way_;
  Time::time_point moved_;  // when something began with nothing under way, or ended
  bool stopping_ = false;
  std::thread thread_;  // last: it uses the rest
};

// Watches the waits for copies of `program`, and each operation of a store. All that is given must outlive the result.
std::unique_ptr<CopyEngine> watched(CopyEngine& engine, Watchdog& dog, const plan::Program& program,
                                    const model::Dataflow& flow);
std::unique_ptr<TierStore> watched(std::unique_ptr<TierStore> store, Watchdog& dog, std::string name);

}  // namespace memo::exec
