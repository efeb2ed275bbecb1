// Which files of a folder are its weights: what is not known to hold none may.
#include "memo/store/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace memo::store {
namespace {

using testing::HasSubstr;

class ModelFolder : public testing::Test {
 protected:
  ModelFolder() : folder_(Path(testing::TempDir()) / ("memo-model-folder-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~ModelFolder() override { std::filesystem::remove_all(folder_); }
  void add(const std::string& name, std::string_view text = "{}") const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    ASSERT_TRUE(write_atomically(folder_ / name, text));
  }
  // "yes", "no" or the refusal.
  [[nodiscard]] std::string weights() const {
    const Result<bool> found = has_weights(folder_);
    return !found ? found.error().message : *found ? "yes" : "no";
  }
  Path folder_;
};

TEST_F(ModelFolder, AConfigWithTextTokenizersAndPicturesHasNone) {
  for (const char* name :
       {"config.json", "generation_config.json", "tokenizer.model", "tokenizer.model.v3", "spiece.model", "merges.txt",
        "README.md", "modeling_x.py", "LICENSE", ".gitattributes", ".cache/x.bin", "a.PNG"})
    add(name);
  EXPECT_EQ(weights(), "no");
}

TEST_F(ModelFolder, AnyOtherFileIsNamed) {
  for (const char* name :
       {"model.gguf", "w.xyz", "model.safetensors.bak", "x.index.json", "sub/model.onnx", "a/b/w.pt"}) {
    add(name);
    EXPECT_THAT(weights(), HasSubstr((folder_ / name).string() + ": may hold weights")) << name;
    std::filesystem::remove(folder_ / name);
  }
  add("blob", std::string_view("a\0b", 3));
  EXPECT_THAT(weights(), HasSubstr("blob: may hold weights"));
}

TEST_F(ModelFolder, WeightsOfAFolderBelowAreItsOwn) {
  add("checkpoint-5/model.safetensors");
  EXPECT_THAT(weights(), HasSubstr("checkpoint-5 does; name that folder"));
}

TEST_F(ModelFolder, ShardsWithoutAnIndexAreNotEnough) {
  add("model-00001-of-00002.safetensors");
  EXPECT_THAT(weights(), HasSubstr("model.safetensors.index.json lists, and the folder has neither"));
  add("model.safetensors.index.json");
  EXPECT_EQ(weights(), "yes");
}

TEST_F(ModelFolder, ALinkToNothingIsThere) {
  std::filesystem::create_symlink("../blobs/1", folder_ / "model.safetensors");
  EXPECT_EQ(weights(), "yes") << "and told when it is opened";
}

TEST_F(ModelFolder, AnAdapterIsRefusedAloneAndBesideItsModel) {
  add("adapter_config.json");
  EXPECT_THAT(weights(), HasSubstr("adapter_config.json: the folder holds an adapter"));
  add("model.safetensors");
  EXPECT_THAT(weights(), HasSubstr("or move it elsewhere"));
}

}  // namespace
}  // namespace memo::store
