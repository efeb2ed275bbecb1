// The key's page, the cipher, and a tier that ciphers writes and deciphers reads.
#include "memo/exec/encryption.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sys/mman.h>

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

// 256 bits for the data, and 256 for the tweak.
class Key {
 public:
  static constexpr std::size_t size = 64;

  // False if there is no memory or no randomness.
  [[nodiscard]] bool draw() {
    void* const page = ::mmap(nullptr, sector, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return false;
    bytes_ = static_cast<unsigned char*>(page);
    (void)::mlock(page, sector);  // best effort: locking may be forbidden
    return ::madvise(page, sector, MADV_DONTDUMP) == 0 && RAND_priv_bytes(bytes_, size) == 1;
  }
  Key() = default;
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;
  ~Key() {
    if (!bytes_) return;
    OPENSSL_cleanse(bytes_, size);
    ::munmap(bytes_, sector);
  }
  [[nodiscard]] const unsigned char* bytes() const { return bytes_; }

 private:
  unsigned char* bytes_ = nullptr;
};

// The cipher in one direction.
class Cipher {
 public:
  enum class Way : int { decipher = 0, encipher = 1 };

  // False if OpenSSL has no such cipher.
  [[nodiscard]] bool begin(const Key& key, Way way) {
    return context_ && EVP_CipherInit_ex(context_.get(), EVP_aes_256_xts(), nullptr, key.bytes(), nullptr,
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

 private:
  struct Free {
    void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }  // also wipes the key schedule
  };
  std::unique_ptr<EVP_CIPHER_CTX, Free> context_{EVP_CIPHER_CTX_new()};
};

class EncryptedTier final : public TierStore {
 public:
  explicit EncryptedTier(std::unique_ptr<TierStore> store)
      : store_(std::move(store)), buffer_(static_cast<std::byte*>(std::aligned_alloc(sector, piece)), std::free) {}

  Status begin() {
    Cipher cipher;
    const bool good = buffer_ && key_.draw() && cipher.begin(key_, Cipher::Way::encipher);
    return good ? Status() : run_time_error("memory.encrypt: OpenSSL has no AES-256-XTS or no randomness here");
  }

  Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) override {
    const std::lock_guard lock(mutex_);
    for (std::int64_t at = 0; at < bytes; at += piece) {
      const std::int64_t some = std::min(piece, bytes - at);
      cipher(Cipher::Way::encipher, offset + at, from + at, buffer_.get(), some);
      MEMO_CHECKED(store_->write(offset + at, buffer_.get(), some));
    }
    return {};
  }

  Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override {
    MEMO_CHECKED(store_->read(offset, to, bytes));
    cipher(Cipher::Way::decipher, offset, to, to, bytes);
    return {};
  }

 private:
  void cipher(Cipher::Way way, std::int64_t offset, const std::byte* from, std::byte* to, std::int64_t bytes) const {
    Cipher cipher;
    MEMO_CHECK(cipher.begin(key_, way), "a cipher that was there once is there");
    cipher.run(offset, from, to, bytes);
  }

  const std::unique_ptr<TierStore> store_;
  std::mutex mutex_;                                               // guards buffer_
  const std::unique_ptr<std::byte, decltype(&std::free)> buffer_;  // ciphertext on its way to the store
  Key key_;
};

}  // namespace

Result<std::unique_ptr<TierStore>> encrypted(std::unique_ptr<TierStore> store) {
  auto tier = std::make_unique<EncryptedTier>(std::move(store));
  MEMO_CHECKED(tier->begin());
  return tier;
}

}  // namespace memo::exec
