// Index types do not mix, and a table is read by its own kind alone.
#include "memo/base/index.h"

#include <gtest/gtest.h>

#include <concepts>
#include <map>
#include <string>

namespace memo {
namespace {

using Row = Index<struct RowTag>;
using Column = Index<struct ColumnTag>;
using Rows = IndexedVector<Row, std::string>;

// Nothing but an index of its own kind stands for an index, and an index for no number.
static_assert(!std::convertible_to<int, Row> && !std::convertible_to<std::size_t, Row>);
static_assert(!std::convertible_to<Row, int> && !std::convertible_to<Row, std::size_t>);
static_assert(!std::constructible_from<Row, Column> && !std::assignable_from<Row&, Column>);
template <class A, class B>
concept Compared = requires(A a, B b) {
  a == b;
}
|| requires(A a, B b) { a < b; };
static_assert(Compared<Row, Row> && !Compared<Row, Column> && !Compared<Row, int>);
template <class A, class B>
concept Added = requires(A a, B b) {
  a + b;
};
template <class A, class B>
concept Subtracted = requires(A a, B b) {
  a - b;
};
static_assert(Added<Row, int> && !Added<Row, Row> && !Added<Row, Column>);
static_assert(Subtracted<Row, Row> && !Subtracted<Row, Column>);
static_assert(std::same_as<decltype(Row() - Row()), int>);
// A list is asked by index of its own kind alone.
template <class List, class I>
concept Asked = requires(List list, I i) {
  list[i];
};
static_assert(Asked<Rows, Row> && Asked<const Rows, Row>);
static_assert(!Asked<Rows, Column> && !Asked<Rows, int> && !Asked<Rows, std::size_t>);
// They cost what a number costs.
static_assert(sizeof(Row) == sizeof(int) && std::is_trivially_copyable_v<Row>);

TEST(Index, CountsFromZeroAndKnowsNone) {
  EXPECT_EQ(Row().value(), 0);
  EXPECT_TRUE(Row().exists());
  EXPECT_FALSE(Row::none().exists());
  EXPECT_EQ(Row::none().value(), -1) << "as files write it";
  EXPECT_EQ(Row(std::size_t{7}), Row(7));
  EXPECT_EQ(Row(7) - 2, Row(5));
  EXPECT_EQ(Row(7) - Row(2), 5);
  Row row(1);
  EXPECT_EQ(row++, Row(1));
  EXPECT_EQ(--row, Row(1));
  EXPECT_EQ(fmt::format("row {}, {:>3}", Row(4), Row::none()), "row 4,  -1");
}

TEST(Index, IsWithinSoManyOrNot) {
  EXPECT_TRUE(Row(2).within(3));
  EXPECT_FALSE(Row(3).within(3));
  EXPECT_FALSE(Row::none().within(3));
  EXPECT_FALSE(Row().within(0));
}

TEST(Index, FirstOnesInOrder) {
  std::string seen;
  for (const Row row : indices<Row>(3)) seen += fmt::format("{} ", row);
  EXPECT_EQ(seen, "0 1 2 ");
  EXPECT_TRUE(indices<Row>(0).empty());
}

TEST(IndexedVector, IsAListThatIsAskedByIndex) {
  Rows rows{"a", "b"};
  rows.push_back("c");
  EXPECT_EQ(rows.end_index(), Row(3));
  EXPECT_EQ(rows[rows.end_index() - 1], "c");
  std::string all;
  for (const Row row : rows.indices()) all += rows[row];
  for (const std::string& each : rows) all += each;
  EXPECT_EQ(all, "abcabc");
  rows[Row(1)] = "x";
  EXPECT_EQ(rows, (std::vector<std::string>{"a", "x", "c"}));
}

TEST(IndexedVector, OfBitsToo) {
  IndexedVector<Row, bool> seen(2, false);
  seen[Row(1)] = true;
  EXPECT_FALSE(seen[Row(0)]);
  EXPECT_TRUE(seen[Row(1)]);
}

TEST(IndexedVector, IndicesAreKeysOfAMap) {
  std::map<std::pair<Row, Column>, int> table{{{Row(1), Column(2)}, 3}};
  EXPECT_EQ(table.at({Row(1), Column(2)}), 3);
}

}  // namespace
}  // namespace memo
