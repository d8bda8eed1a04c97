// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Whole models on a GPU in bf16 with random weights: decoding, reading prompts, vision towers.
//
//   benchmark_cuda_models [--json FILE] [WORD...]      only rows that contain a WORD
//
// Decoding is timed by the clock, token by token as `generate` does it: the likeliest token is
// chosen on the device, the host is told each one; so are whole answers. Prompts and towers are
// timed from graphs.
#include <chrono>

#include "mlmamba/models/preset.hpp"
#include "mlmamba/text/detail/stepper.hpp"
#include "random_weights.cuh"

namespace {

using namespace bench;
using E = cuda_bf16;

/// ||a - b|| / ||b|| of logits.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    error += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    norm += double(b[i]) * b[i];
  }
  return std::sqrt(error / norm);
}

template <class E>
class language {
 public:
  language(gpu& ctx, report& out, std::string name, const mamba_config& c)
      : ctx_(ctx), out_(out), name_(std::move(name)), model_(c), weights_(randomise(model_)) {
    nn::for_each_parameter(
        model_, [&](const std::string&, const auto& p) { parameters_ += double(p.value.count()); });
    error_ = prompt_against_steps();
  }

  void decode(index_t batch) {
    const std::string name = name_ + " decode, batch " + std::to_string(batch);
    if (!is_wanted(name)) return;
    auto state = model_.make_state(batch);
    double bytes = weights_;
    nn::for_each_leaf(state,
                      [&](const std::string&, const auto& t) { bytes += 2 * double(t.bytes()); });
    detail::stepper<mamba_lm<E>> steps(batch, true, model_.config.vocab_size);
    std::vector<std::int32_t> ids(std::size_t(batch), 17);
    std::vector<double> all;
    for (int i = 0; i < 72; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      steps.step(ctx_, model_, ids, state);
      const auto next = steps.choices();
      ids.assign(next.begin(), next.end());
      all.push_back(
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    std::sort(all.begin(), all.end());
    out_.add({name, all[all.size() / 2], bytes, 2 * parameters_ * double(batch), error_, 0.1});
  }

  void prompt(index_t length) {
    const std::string name = name_ + " prompt, L " + std::to_string(length);
    if (!is_wanted(name)) return;
    auto state = model_.make_state(1);
    tensor<std::int32_t, 2, memory::device> ids({1, length});
    const auto host = tokens(length);
    from_host(ids.view(), host.view());
    const double t = seconds(
        ctx_,
        [&] {
          auto frame = ctx_.scratch.make_frame();
          model_.prefill(ctx_, model_.embed(ctx_, std::as_const(ids).view()), state);
        },
        1);
    const double head = double(model_.vocabulary()) * double(model_.d_model());
    out_.add({name, t, weights_, 2 * (parameters_ - head) * double(length), error_, 0.1});
  }

 private:
  tensor<std::int32_t, 2> tokens(index_t n) const {
    tensor<std::int32_t, 2> ids({1, n});
    random_stream r{11, 0, 0};
    for (index_t i = 0; i < n; ++i)
      ids(0, i) = std::int32_t(r.uniform(0, double(model_.config.vocab_size)));
    return ids;
  }
  std::vector<float> read(const tensor<std::int32_t, 2>& ids, typename mamba_lm<E>::state& state) {
    auto frame = ctx_.scratch.make_frame();
    tensor<std::int32_t, 2, memory::device> there(ids.shape());
    from_host(there.view(), ids.view());
    return detail::host_logits(
        model_.prefill(ctx_, model_.embed(ctx_, std::as_const(there).view()), state));
  }
  /// Are the logits after a prompt those after its first part and steps?
  double prompt_against_steps() {
    const auto ids = tokens(260);
    auto whole = model_.make_state(1), parts = model_.make_state(1);
    const auto want = read(ids, whole);
    tensor<std::int32_t, 2> first({1, 256});
    std::copy(ids.data(), ids.data() + 256, first.data());
    read(first, parts);
    detail::stepper<mamba_lm<E>> steps(1, false);
    for (index_t i = 256; i < 260; ++i) {
      const std::int32_t id = ids(0, i);
      steps.step(ctx_, model_, std::span(&id, 1), parts);
    }
    return distance(steps.logits(), want);
  }

  gpu& ctx_;
  report& out_;
  std::string name_;
  mamba_lm<E> model_;
  double weights_, parameters_ = 0, error_ = 0;
};

void tower(gpu& ctx, report& out, const char* name, const vit_config& c, index_t batch) {
  const std::string title = std::string(name) + ", batch " + std::to_string(batch);
  if (!is_wanted(title)) return;
  vit<E> model(c);
  const double bytes = randomise(model);
  double matrices = 0;
  nn::for_each_parameter(model, [&](const std::string& path, const auto& p) {
    if (path.find("blocks") != path.npos) matrices += double(p.value.count());
  });
  tensor<bf16, 4, memory::device> x({batch, 3, c.image_size, c.image_size});
  fill_again(x, 1, 0);
  // A picture in the batch against the same one alone.
  const in<E, 4> all = std::as_const(x).view();
  std::vector<float> alone, among;
  {
    auto frame = ctx.scratch.make_frame();
    const index_t last = batch - 1;
    alone = detail::host_logits(model.encode(ctx, all.slice(0, last, 1)));
    among = detail::host_logits(in<E, 3>(model.encode(ctx, all)).slice(0, last, 1));
  }
  const double t = seconds(
      ctx,
      [&] {
        auto frame = ctx.scratch.make_frame();
        model.encode(ctx, all);
      },
      1);
  const double n = double(c.patches() + c.prefix()), d = double(c.d_model);
  const double flops = double(batch) * (2 * matrices * n + 4 * n * n * d * double(c.blocks()));
  out.add({title, t, bytes, flops, distance(among, alone), 0.05});
}

/// ML-Mamba of published size: a picture and 32 tokens to 256 tokens, greedy.
void answer(gpu& ctx, report& out) {
  const char* name = "mlmamba+3b, a picture and 32 tokens to 256";
  if (!is_wanted(name)) return;
  ml_mamba_3b<E> model(
      two_towers<E>(vit<E>(preset::dinov2_l_384), vit<E>(preset::siglip_so400m_384)),
      mamba_lm<E>(preset::mamba2_2_7b));
  const double bytes = randomise(model);
  tensor<bf16, 4, memory::device> x({1, 3, 384, 384});
  fill_again(x, 1, 0);
  const in<E, 4> both[2] = {std::as_const(x).view(), std::as_const(x).view()};
  tensor<std::int32_t, 2, memory::device> question({1, 32});
  cuda_check(cudaMemset(question.data(), 0, question.bytes()), "fill");
  const in_index<E, 2> ids = std::as_const(question).view();

  // The logits of picture and question at once, and of one after the other.
  std::vector<float> whole, parts;
  {
    auto frame = ctx.scratch.make_frame();
    auto a = model.make_state(1), b = model.make_state(1);
    whole = detail::host_logits(model.prefill(ctx, both, ids, a));
    model.prefill(ctx, model.tokens(ctx, model.features(ctx, both)), b);
    parts = detail::host_logits(model.prefill(ctx, model.embed(ctx, ids), b));
  }
  std::vector<double> all;
  for (int run = 0; run < 5; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    auto state = model.make_state(1);
    std::int32_t id = 0;
    {
      auto frame = ctx.scratch.make_frame();
      const auto logits = detail::host_logits(model.prefill(ctx, both, ids, state));
      id = std::int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
    }
    detail::stepper<mamba_lm<E>> steps(1, true, model.llm_backbone.config.vocab_size);
    for (int i = 1; i < 256; ++i) {
      steps.step(ctx, model.llm_backbone, std::span(&id, 1), state);
      id = steps.choices()[0];
    }
    all.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::sort(all.begin(), all.end());
  out.add({name, all[2], 255 * bytes, 0, distance(parts, whole), 0.1});
}

}  // namespace

int main(int argc, char** argv) try {
  if (!wanted.read(argc, argv, "benchmark_cuda_models")) return 0;
  gpu ctx;
  report out((roofs(ctx)));
  const auto some = [](const std::string& name) {  // a row of this model
    for (const char* what :
         {" decode, batch 1", " decode, batch 2", " decode, batch 3", " decode, batch 4",
          " decode, batch 8", " decode, batch 16", " decode, batch 64", " prompt, L 512",
          " prompt, L 2048", " prompt, L 16384"})
      if (is_wanted(name + what)) return true;
    return false;
  };
  for (const auto& [name, config] : {std::pair("mamba2-130m", preset::mamba2_130m),
                                     std::pair("mamba2-2.7b", preset::mamba2_2_7b)}) {
    if (!some(name)) continue;
    language<E> m(ctx, out, name, config);
    for (index_t batch : {1, 2, 3, 4, 8, 16, 64}) m.decode(batch);
    for (index_t length : {512, 2048, 16384}) m.prompt(length);
  }
  if (const std::string name = "mamba2-2.7b, state in bf16,"; some(name)) {
    language<on<backend::cuda, bf16, float, bf16, bf16>> m(ctx, out, name, preset::mamba2_2_7b);
    for (index_t batch : {1, 16, 64}) m.decode(batch);
  }
  for (index_t batch : {1, 8, 64}) {
    tower(ctx, out, "siglip-so400m-384", preset::siglip_so400m_384, batch);
    tower(ctx, out, "dinov2-l-384", preset::dinov2_l_384, batch);
  }
  answer(ctx, out);
  if (wanted.json) out.write(wanted.json);
  return out.ok() ? 0 : 1;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 2;
}
