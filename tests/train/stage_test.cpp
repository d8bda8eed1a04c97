// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The stages: what is trained, their numbers, the names of their checkpoints and their records.
#include "mlmamba/train/stage.hpp"

#include <doctest/doctest.h>

#include <fstream>

#include "io/temporary.hpp"
#include "mlmamba/train/stage_metrics.hpp"
#include "train/bigram.hpp"

using namespace mlmamba;
using namespace mlmamba::train;

namespace {
using E = reference_f32;

/// The parts of a model that sees, each a model of one table.
struct parts {
  using engine_type = E;
  using part = test::bigram<E>;
  part vision_backbone{7}, mlp{7}, bidirectional_mamba{7}, projector{7}, llm_backbone{7};
  static void fields(auto& self, auto&& f) {
    f("vision_backbone", self.vision_backbone), f("mlp", self.mlp);
    f("bidirectional_mamba", self.bidirectional_mamba), f("projector", self.projector);
    f("llm_backbone", self.llm_backbone);
  }
};
struct towers_alone {
  using engine_type = E;
  test::bigram<E> vision_backbone{3};
  static void fields(auto& self, auto&& f) { f("vision_backbone", self.vision_backbone); }
};
struct parts_gradients {
  double operator()(context_of<E>& ctx, parts& m, const micro_batch& b, double scale) const {
    double sum = 0;
    for (parts::part* p :
         {&m.vision_backbone, &m.mlp, &m.bidirectional_mamba, &m.projector, &m.llm_backbone})
      sum += test::bigram_gradients{}(ctx, *p, b, scale);
    return sum;
  }
};
parts fresh() {
  parts m;
  nn::initialise(m, {3, 0, 0});
  return m;
}
update_batch batch_of(index_t u) {
  update_batch b;
  for (std::uint64_t p = 0; p < 3; ++p)
    b.parts.push_back(test::chains(3, 8, 7, 10 * std::uint64_t(u) + p));
  b.text_tokens = 72;
  return b;
}
std::vector<std::string> bits_of(const parts& m) {
  std::vector<std::string> out;
  nn::for_each_parameter(m, [&](const std::string&, const auto& p) {
    out.emplace_back(reinterpret_cast<const char*>(p.value.data()), p.value.bytes());
  });
  return out;
}
std::vector<json> lines_of(const std::filesystem::path& file) {
  std::vector<json> out;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) out.push_back(json::parse(line));
  return out;
}
using parts_trainer = trainer<parts, parts_gradients>;
}  // namespace

TEST_SUITE("stage_test") {
  TEST_CASE("what a stage trains goes by the parameter's path") {
    const std::string tower = "vision_backbone.dino_featurizer.blocks.0.norm1.weight",
                      language = "llm_backbone.backbone.layers.0.mixer.A_log";
    for (const stage s : {stage::align, stage::finetune, stage::full_finetune}) {
      CAPTURE(name_of(s));
      CHECK(stage_of(name_of(s)) == s);
      CHECK(trains(s, tower) == (s == stage::full_finetune));
      CHECK(trains(s, language) == (s != stage::align));
      for (const char* connector : {"projector.fc1.weight", "mlp.weight",
                                    "bidirectional_mamba.mamba.D", "vision_backbone_like.weight"})
        CHECK(trains(s, connector));
    }
    CHECK_THROWS_AS(stage_of("pretrain"), error);
  }
  TEST_CASE("frozen parameters keep their bits, the others change at the second update") {
    context_of<E> ctx;
    for (const stage s : {stage::align, stage::finetune, stage::full_finetune}) {
      parts m = fresh();
      set_stage(m, s);
      const auto before = bits_of(m);
      stage_plan plan = stage_plan::of(s);
      plan.batch = 9, plan.micro_batch = 3, plan.max_steps = 100;
      trainer_options o = plan.training(90);
      o.show = false;
      parts_trainer t(ctx, m, {}, o);
      CHECK(t.update(batch_of(0)).learning_rate == 0);
      CHECK(bits_of(m) == before);
      for (index_t u = 1; u < 4; ++u) CHECK(t.update(batch_of(u)).learning_rate > 0);
      const auto after = bits_of(m);
      std::size_t i = 0;
      nn::for_each_parameter(m, [&](const std::string& path, const auto& p) {
        CHECK(p.trainable == trains(s, path));
        // Nothing depends on `unused`; it changes by its decay alone, and alignment has none.
        if (!path.ends_with("unused"))
          CHECK_MESSAGE((after[i] == before[i]) != trains(s, path), path);
        if (!trains(s, path)) CHECK(after[i] == before[i]);
        ++i;
      });
    }
    parts m = fresh();
    set_stage(m, stage::align);
    set_stage(m, stage::full_finetune);  // thaws
    nn::for_each_parameter(m, [](const std::string&, const auto& p) { CHECK(p.trainable); });
    towers_alone towers;
    CHECK_THROWS_AS(set_stage(towers, stage::finetune), error);
  }
  TEST_CASE("the original's numbers") {
    const stage_plan align = stage_plan::of(stage::align), tune = stage_plan::of(stage::finetune);
    CHECK(align.epochs == 1);
    CHECK(align.accumulated() == 16);
    CHECK(align.labels() == labelling::caption);
    CHECK(align.order() == sampling::distributed);
    const trainer_options a = align.training(558128), f = tune.training(665298);
    CHECK(a.rate.steps == 2181);
    CHECK(a.rate.warmup == 65);
    CHECK(a.rate.peak == 1e-3);
    CHECK(a.optimizer.weight_decay == 0);
    CHECK(a.normalisation == normalisation::mean_of_means);
    CHECK(f.rate.steps == 2 * 5198);
    CHECK(f.rate.warmup == 311);
    CHECK(f.rate.peak == 2e-5);
    CHECK(f.optimizer.weight_decay == 0.1);
    CHECK(f.optimizer.clip == 1);
    CHECK(f.epoch_updates == 5198);
    CHECK(tune.labels() == labelling::answers);
    CHECK(tune.order() == sampling::split_modality);
    stage_plan other = stage_plan::of(stage::full_finetune);
    CHECK(other.learning_rate == 2e-5);
    other.max_steps = 100, other.ranks = 8, other.published_decay = true;
    CHECK(other.accumulated() == 1);
    CHECK(other.training(1000).rate.steps == 100);
    CHECK(other.training(1000).optimizer.weight_decay == 0);
    other.batch = 100;
    CHECK_THROWS_AS(other.training(1000), error);
    // Numbers whose products no integer holds.
    other = stage_plan::of(stage::finetune);
    other.epochs = index_t(1) << 62;
    CHECK_THROWS_AS(other.training(1000), error);
    other = stage_plan::of(stage::finetune);
    other.micro_batch = other.ranks = index_t(1) << 32;
    CHECK_THROWS_AS(other.training(1000), error);
  }
  TEST_CASE("the rates: 0 first, a straight line, half a cosine") {
    const schedule rate = stage_plan::of(stage::finetune).training(665298).rate;
    CHECK(rate(0) == 0);
    for (const index_t s : {1, 100, 310}) CHECK(rate(s) == doctest::Approx(2e-5 * double(s) / 311));
    for (const index_t s : {311, 312, 5000, 10395})
      CHECK(rate(s) == doctest::Approx(2e-5 * 0.5 *
                                       (1 + std::cos(std::acos(-1.0) * double(s - 311) / 10085))));
    stage_plan cold = stage_plan::of(stage::finetune);
    cold.warmup_ratio = 0;
    CHECK(cold.training(1280).rate(0) == 0);
  }
  TEST_CASE("weight decay: matrices, kernels and embeddings alone") {
    const optimizer_options o = stage_plan::of(stage::finetune).training(1000).optimizer;
    const std::string layer = "llm_backbone.backbone.layers.0.";
    CHECK(decays(layer + "mixer.in_proj.weight", 2, o));
    CHECK(decays(layer + "mixer.conv1d.weight", 3, o));
    CHECK(decays("llm_backbone.backbone.embedding.weight", 2, o));
    for (const char* name : {"mixer.conv1d.bias", "mixer.A_log", "mixer.D", "mixer.dt_bias",
                             "mixer.norm.weight", "norm.weight"})
      CHECK_FALSE(decays(layer + name, 1, o));
    CHECK_FALSE(decays(layer + "mixer.A_log", 2, o));  // of Mamba-1
  }
  TEST_CASE("parts that were cut together are one mean") {
    context_of<E> ctx;
    const auto update = [&](bool together) {
      parts m = fresh();
      trainer_options o;
      o.normalisation = normalisation::mean_of_means;
      parts_trainer t(ctx, m, {}, o);
      update_batch b;
      for (std::uint64_t p = 0; p < 3; ++p)
        b.parts.push_back(test::chains(1 + 2 * index_t(p), 8, 7, p));
      if (together) b.parts[0].cut = b.parts[1].cut = 4;
      return t.update(b);
    };
    parts m = fresh();
    double sum[3], n[3];
    for (std::size_t p = 0; p < 3; ++p) {
      const micro_batch b = test::chains(1 + 2 * index_t(p), 8, 7, p);
      sum[p] = parts_gradients{}(ctx, m, b, 1), n[p] = double(b.labelled());
    }
    const update_record two = update(true), three = update(false);
    CHECK(two.micro_losses.size() == 2);
    CHECK(two.micro_losses[0] == doctest::Approx((sum[0] + sum[1]) / (n[0] + n[1])).epsilon(1e-12));
    CHECK(two.loss ==
          doctest::Approx((two.micro_losses[0] + two.micro_losses[1]) / 2).epsilon(1e-12));
    CHECK(three.loss ==
          doctest::Approx((sum[0] / n[0] + sum[1] / n[1] + sum[2] / n[2]) / 3).epsilon(1e-12));
    CHECK(std::fabs(two.loss - three.loss) > 1e-4);
  }
  TEST_CASE("a run of a stage: names of checkpoints, the newest, records once, resumed") {
    const test::temporary_folder folder;
    context_of<E> ctx;
    const std::string name = run_name("mlmamba", "llava-v15", stage::finetune, 7);
    CHECK(name == "mlmamba+stage-finetune+x7");
    CHECK(run_name("m", "llava-lrv", stage::align, 8) == "llava-lrv+m+stage-align+x8");
    stage_plan plan = stage_plan::of(stage::finetune);
    plan.batch = 9, plan.micro_batch = 3, plan.learning_rate = 0.1;
    trainer_options o = plan.training(45);  // 2 epochs of 5 updates
    o.folder = folder / "run";
    o.show = false;
    o.keep = 5;
    o.checkpoint_every = 4;
    std::vector<double> raw;
    std::string last;
    for (int piece = 0; piece < 2; ++piece) {
      parts m = fresh();
      parts_trainer t(ctx, m, {}, o);
      if (piece > 0) CHECK(t.resume());
      std::filesystem::create_directories(o.folder);
      stage_metrics metrics(o.folder, name, stage::finetune, {{"lr", 0.1}}, t.state().updates);
      trainer_options with = o;
      with.record = [&](const update_record& r, double next) {
        metrics.add(r, next);
        raw.push_back(r.loss);
        last = metrics.status();
      };
      parts_trainer recording(ctx, m, {}, with);
      if (piece > 0) CHECK(recording.resume());
      index_t u = recording.state().updates;
      recording.run([&] { return batch_of(u++); }, {}, [&] { return piece == 0 && u == 6; });
    }
    REQUIRE(raw.size() == 10);
    const saved_run saved(o.folder / "checkpoints");
    CHECK(saved.steps() == std::vector<index_t>{4, 6, 8, 10});
    char wanted[64];
    std::snprintf(wanted, sizeof wanted, "step-000006-epoch-01-loss=%.4f", raw[5]);
    CHECK(saved.path_of(6).filename() == wanted);
    std::snprintf(wanted, sizeof wanted, "step-000004-epoch-00-loss=%.4f", raw[3]);
    CHECK(saved.path_of(4).filename() == wanted);
    const auto latest = o.folder / "checkpoints" / "latest-checkpoint";
    CHECK(std::filesystem::read_symlink(latest) == saved.path_of(10).filename());
    CHECK(read_json(latest / "state.json").at("updates") == 10);
    CHECK(saved_run::name_of({.updates = 3, .epoch_updates = 3}) ==
          "step-000003-epoch-00-loss=inf");

    const auto runs = lines_of(o.folder / "run-metrics.jsonl");
    REQUIRE(runs.size() == 1);
    CHECK(runs[0] == json{{"run_id", name}, {"hparams", {{"lr", 0.1}}}});
    const auto records = lines_of(o.folder / (name + ".jsonl"));
    REQUIRE(records.size() == 10);
    for (std::size_t i = 0; i < 10; ++i) {
      CHECK(records[i].size() == 5);
      CHECK(records[i].at("Finetune/Step") == i + 1);
      CHECK(records[i].at("Finetune/Loss (Raw)").get<double>() ==
            doctest::Approx(raw[i]).epsilon(1e-12));
      CHECK(records[i].at("Finetune/Learning Rate").get<double>() == o.rate(index_t(i) + 1));
      CHECK(records[i].at("Finetune/Step Time").get<double>() > 0);
    }
    CHECK(records[1].at("Finetune/Loss").get<double>() == doctest::Approx((raw[0] + raw[1]) / 2));
    CHECK(records[7].at("Finetune/Loss").get<double>() == doctest::Approx((raw[6] + raw[7]) / 2));
    CHECK(last.starts_with("=>> [Global Step] 000010 =>> LR :: 0.000000 -- Loss :: "));
    CHECK(stage_metrics::status_line(123, 2e-5, 1.23451) ==
          "=>> [Global Step] 000123 =>> LR :: 0.000020 -- Loss :: 1.2345");
  }
  TEST_CASE("the loss is the mean of the last 128 micro-batches") {
    const test::temporary_folder folder;
    stage_metrics metrics(folder / ".", "r", stage::full_finetune, {});
    for (index_t step = 1; step <= 100; ++step)
      metrics.add({.step = step, .micro_losses = {double(2 * step), double(2 * step + 1)}}, 0.5);
    const auto records = lines_of(folder / "r.jsonl");
    REQUIRE(records.size() == 100);
    CHECK(records[99].at("Full-finetune/Loss (Raw)") == 200.5);
    CHECK(records[99].at("Full-finetune/Loss") == 201 - 63.5);
    CHECK(records[9].at("Full-finetune/Loss") == 11.5);
  }
}
