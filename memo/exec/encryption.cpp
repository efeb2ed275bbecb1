#include "memo/exec/encryption.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <mutex>

#include "memo/base/check.h"

namespace memo::exec {
namespace {

constexpr std::int64_t sector = 4096;
constexpr std::int64_t piece = std::int64_t{8} << 20;

// The cipher in one direction. Callers take turns.
class Cipher {
 public:
  enum class Way : int { decipher = 0, encipher = 1 };
  using Key = std::array<unsigned char, 64>;  // of 256 bits for the data, and as much for the tweak

  [[nodiscard]] bool begin(const Key& key, Way way) {
    return context_ && EVP_CipherInit_ex(context_.get(), EVP_aes_256_xts(), nullptr, key.data(), nullptr,
                                         static_cast<int>(way)) == 1;
  }
  // `to` may be `from`.
  void run(std::int64_t offset, const std::byte* from, std::byte* to, std::int64_t bytes) {
    for (std::int64_t at = 0; at < bytes; at += sector) {
      auto number = static_cast<std::uint64_t>((offset + at) / sector);
      std::array<unsigned char, 16> tweak{};
      for (std::size_t i = 0; i < sizeof number; ++i, number >>= 8) tweak[i] = static_cast<unsigned char>(number);
      int done = 0;
      const bool good =
          EVP_CipherInit_ex(context_.get(), nullptr, nullptr, nullptr, tweak.data(), -1) == 1 &&
          EVP_CipherUpdate(context_.get(), reinterpret_cast<unsigned char*>(to + at), &done,
                           reinterpret_cast<const unsigned char*>(from + at), static_cast<int>(sector)) == 1;
      MEMO_CHECK(good && done == sector, "a cipher that was set up takes a sector");
    }
  }

  std::mutex mutex;  // held while it runs

 private:
  struct Free {
    void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }  // wipes the key
  };
  std::unique_ptr<EVP_CIPHER_CTX, Free> context_{EVP_CIPHER_CTX_new()};
};

class EncryptedTier final : public TierStore {
 public:
  explicit EncryptedTier(std::unique_ptr<TierStore> store)
      : store_(std::move(store)), buffer_(static_cast<std::byte*>(std::aligned_alloc(sector, piece)), std::free) {}

  Status begin() {
    Cipher::Key key;
    const bool good = buffer_ && RAND_priv_bytes(key.data(), static_cast<int>(key.size())) == 1 &&
                      out_.begin(key, Cipher::Way::encipher) && in_.begin(key, Cipher::Way::decipher);
    OPENSSL_cleanse(key.data(), key.size());
    return good ? Status() : run_time_error("memory.encrypt: OpenSSL has no AES-256-XTS or no randomness here");
  }

  Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) override {
    const std::lock_guard lock(out_.mutex);
    for (std::int64_t at = 0; at < bytes; at += piece) {
      const std::int64_t some = std::min(piece, bytes - at);
      out_.run(offset + at, from + at, buffer_.get(), some);
      MEMO_CHECKED(store_->write(offset + at, buffer_.get(), some));
    }
    return {};
  }

  Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override {
    MEMO_CHECKED(store_->read(offset, to, bytes));
    const std::lock_guard lock(in_.mutex);
    in_.run(offset, to, to, bytes);
    return {};
  }

 private:
  const std::unique_ptr<TierStore> store_;
  const std::unique_ptr<std::byte, decltype(&std::free)> buffer_;  // for `out_`
  Cipher out_, in_;
};

}  // namespace

Result<std::unique_ptr<TierStore>> encrypted(std::unique_ptr<TierStore> store) {
  auto tier = std::make_unique<EncryptedTier>(std::move(store));
  MEMO_CHECKED(tier->begin());
  return tier;
}

}  // namespace memo::exec
