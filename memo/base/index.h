// Numbers of things as types: a class is never taken for a layer, and a table of one is not read at the other.
//   using LayerIndex = Index<struct LayerTag>;
//   IndexedVector<LayerIndex, Bytes> bytes(layers);
//   for (const LayerIndex layer : bytes.indices()) total += bytes[layer];
#pragma once

#include <fmt/format.h>

#include <compare>
#include <cstddef>
#include <ranges>
#include <utility>
#include <vector>

namespace memo {

// The number of a thing, from 0; or `none()`, which files write as -1.
template <class Tag>
class Index {
 public:
  constexpr Index() = default;  // the first
  constexpr explicit Index(int value) : value_(value) {}
  constexpr explicit Index(std::size_t value) : value_(static_cast<int>(value)) {}
  static constexpr Index none() { return Index(-1); }

  [[nodiscard]] constexpr int value() const { return value_; }
  [[nodiscard]] constexpr bool exists() const { return value_ >= 0; }
  // Whether it is one of the first `count`.
  [[nodiscard]] constexpr bool within(std::size_t count) const {
    return exists() && static_cast<std::size_t>(value_) < count;
  }

  constexpr Index& operator++() { return ++value_, *this; }
  constexpr Index& operator--() { return --value_, *this; }
  constexpr Index operator++(int) { return Index(value_++); }
  constexpr Index operator--(int) { return Index(value_--); }
  friend constexpr Index operator+(Index a, int n) { return Index(a.value_ + n); }
  friend constexpr Index operator-(Index a, int n) { return Index(a.value_ - n); }
  friend constexpr int operator-(Index a, Index b) { return a.value_ - b.value_; }
  friend constexpr auto operator<=>(Index, Index) = default;

 private:
  int value_ = 0;
};

// Consecutive indices, to loop over. (Clang 14 takes no std::views::iota of GCC's library.)
template <class I>
class IndexRange {
 public:
  class Iterator {
   public:
    using value_type = I;
    using difference_type = int;
    constexpr Iterator() = default;
    constexpr explicit Iterator(I at) : at_(at) {}
    constexpr I operator*() const { return at_; }
    constexpr Iterator& operator++() { return ++at_, *this; }
    constexpr Iterator operator++(int) { return Iterator(at_++); }
    friend constexpr bool operator==(Iterator, Iterator) = default;

   private:
    I at_;
  };
  constexpr IndexRange(I first, I end) : first_(first), end_(end) {}
  [[nodiscard]] constexpr Iterator begin() const { return Iterator(first_); }
  [[nodiscard]] constexpr Iterator end() const { return Iterator(end_); }
  [[nodiscard]] constexpr bool empty() const { return first_ == end_; }

 private:
  I first_, end_;
};

// The first `count` of a kind.
template <class I>
constexpr IndexRange<I> indices(int count) {
  return {I(), I(count)};
}

// A list whose elements are asked for by index of one kind.
template <class I, class T>
class IndexedVector : public std::vector<T> {
 public:
  using Base = std::vector<T>;
  using Base::Base;
  IndexedVector(Base list) : Base(std::move(list)) {}  // NOLINT(google-explicit-constructor): a list of all of them

  constexpr decltype(auto) operator[](I i) { return Base::operator[](static_cast<std::size_t>(i.value())); }
  constexpr decltype(auto) operator[](I i) const { return Base::operator[](static_cast<std::size_t>(i.value())); }

  // Behind the last: the index of what is added next.
  [[nodiscard]] constexpr I end_index() const { return I(this->size()); }
  [[nodiscard]] constexpr IndexRange<I> indices() const { return {I(), end_index()}; }
};

// Containers of what has no index type of its own are counted by std::size_t.
constexpr std::size_t at(int i) { return static_cast<std::size_t>(i); }

}  // namespace memo

// Its iterators hold their index, so they outlive it.
template <class I>
inline constexpr bool std::ranges::enable_borrowed_range<memo::IndexRange<I>> = true;

template <class Tag>
struct fmt::formatter<memo::Index<Tag>> : fmt::formatter<int> {
  template <class Context>
  auto format(memo::Index<Tag> index, Context& context) const {
    return fmt::formatter<int>::format(index.value(), context);
  }
};
