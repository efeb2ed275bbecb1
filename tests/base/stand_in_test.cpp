// Git LFS pointers, web pages and empty files are recognised, and other files are not.
#include "memo/base/stand_in.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace memo {
namespace {

using testing::HasSubstr;

TEST(StandIn, PointersPagesAndEmptyFilesAreToldFromOthers) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n";
  EXPECT_THAT(stand_in(pointer + "size 2048\n"), HasSubstr("not the file of 2.00 KiB that it stands for; run `git"));
  for (const char* size : {"", "size many\n", "size -3\n"})
    EXPECT_THAT(stand_in(pointer + size), HasSubstr("not the file that it stands for"));
  for (const char* page : {"<!DOCTYPE html><html>", "<!doctype HTML>", " \r\n\t<HTML lang=en>", "\xEF\xBB\xBF<html>"})
    EXPECT_THAT(stand_in(page), HasSubstr("is a web page")) << page;
  EXPECT_THAT(stand_in(""), HasSubstr("is empty"));
  for (const char* other : {"{}", "version 2", " ", "<xml>", "\x93NUMPY"}) EXPECT_EQ(stand_in(other), "") << other;
}

}  // namespace
}  // namespace memo
