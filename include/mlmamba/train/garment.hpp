// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Garment VQA: questions with one right answer about pictures made of real product photos.
#pragma once

#include "mlmamba/train/garment/ask.hpp"        // which questions are asked
#include "mlmamba/train/garment/corpus.hpp"     // all texts, for a tokenizer
#include "mlmamba/train/garment/idx.hpp"        // the photos
#include "mlmamba/train/garment/layout.hpp"     // what stands where
#include "mlmamba/train/garment/questions.hpp"  // wordings and answers
#include "mlmamba/train/garment/scene.hpp"      // make_scene: pixels, objects, questions

/// How to use it (zlib is needed; writing PNG and JSON is garment/write.hpp, with libpng):
///
///   namespace garment = mlmamba::train::garment;
///   const garment::source photos = garment::load_source(garment::split::train);
///   const garment::scene s = garment::make_scene(photos, seed, index, {.size = 96, .turns = 8});
///   s.pixels   (96, 96) grey bytes;  s.objects  what, where, which photo
///   s.questions[k].text, .answer, .type, .kind
///
/// Data      Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747), MIT licence; Debian
///           package dataset-fashion-mnist. 60,000 photos to train, 10,000 held out, 10 classes.
/// Presence  after POPE (Li et al. 2023, arXiv:2305.10355), but with labels that can't be wrong.
namespace mlmamba::train::garment {}
