// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The names that a pickle of tensors may use, and what refused ones are called.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "mlmamba/io/detail/printable.hpp"
#include "mlmamba/io/safetensors.hpp"

namespace mlmamba::detail {

enum class pickle_use : std::uint8_t {
  ordered_dict,  ///< called without arguments: a dict
  tensor,        ///< called with a storage and where the numbers are in it
  parameter,     ///< called with a tensor: that tensor
  storage,       ///< the type of a storage
  dtype,         ///< an element type beside a storage of bytes
};
struct pickle_name {
  std::string_view module, name;
  pickle_use use;
  dtype type = dtype::u8;
};

inline constexpr std::array<pickle_name, 29> pickle_names{{
    {"collections", "OrderedDict", pickle_use::ordered_dict},
    {"torch._utils", "_rebuild_tensor", pickle_use::tensor},
    {"torch._utils", "_rebuild_tensor_v2", pickle_use::tensor},
    {"torch._utils", "_rebuild_tensor_v3", pickle_use::tensor},
    {"torch._utils", "_rebuild_parameter", pickle_use::parameter},
    {"torch", "DoubleStorage", pickle_use::storage, dtype::f64},
    {"torch", "FloatStorage", pickle_use::storage, dtype::f32},
    {"torch", "HalfStorage", pickle_use::storage, dtype::f16},
    {"torch", "BFloat16Storage", pickle_use::storage, dtype::bf16},
    {"torch", "LongStorage", pickle_use::storage, dtype::i64},
    {"torch", "IntStorage", pickle_use::storage, dtype::i32},
    {"torch", "ShortStorage", pickle_use::storage, dtype::i16},
    {"torch", "CharStorage", pickle_use::storage, dtype::i8},
    {"torch", "ByteStorage", pickle_use::storage, dtype::u8},
    {"torch", "BoolStorage", pickle_use::storage, dtype::boolean},
    {"torch.storage", "UntypedStorage", pickle_use::storage, dtype::u8},
    {"torch", "float64", pickle_use::dtype, dtype::f64},
    {"torch", "float32", pickle_use::dtype, dtype::f32},
    {"torch", "float16", pickle_use::dtype, dtype::f16},
    {"torch", "bfloat16", pickle_use::dtype, dtype::bf16},
    {"torch", "int64", pickle_use::dtype, dtype::i64},
    {"torch", "int32", pickle_use::dtype, dtype::i32},
    {"torch", "uint8", pickle_use::dtype, dtype::u8},
    {"torch", "bool", pickle_use::dtype, dtype::boolean},
    {"torch", "uint64", pickle_use::dtype, dtype::u64},
    {"torch", "uint32", pickle_use::dtype, dtype::u32},
    {"torch", "uint16", pickle_use::dtype, dtype::u16},
    {"torch", "float8_e4m3fn", pickle_use::dtype, dtype::f8_e4m3},
    {"torch", "float8_e5m2", pickle_use::dtype, dtype::f8_e5m2},
}};

/// What pickletools calls an instruction that is not run.
inline std::string pickle_instruction(std::uint8_t code) {
  struct known {
    std::uint8_t code;
    std::string_view name;
  };
  static constexpr known names[] = {{'i', "INST"},
                                    {'o', "OBJ"},
                                    {0x81, "NEWOBJ"},
                                    {0x92, "NEWOBJ_EX"},
                                    {0x82, "EXT1"},
                                    {0x83, "EXT2"},
                                    {0x84, "EXT4"},
                                    {'P', "PERSID"},
                                    {'B', "BINBYTES"},
                                    {'I', "INT"},
                                    {'C', "SHORT_BINBYTES"},
                                    {'L', "LONG"},
                                    {'S', "STRING"},
                                    {'V', "UNICODE"},
                                    {'F', "FLOAT"},
                                    {'0', "POP"},
                                    {'1', "POP_MARK"},
                                    {'2', "DUP"},
                                    {'g', "GET"},
                                    {'p', "PUT"},
                                    {0x8b, "LONG4"},
                                    {0x8d, "BINUNICODE8"},
                                    {0x8e, "BINBYTES8"},
                                    {0x8f, "EMPTY_SET"},
                                    {0x90, "ADDITEMS"},
                                    {0x91, "FROZENSET"},
                                    {0x96, "BYTEARRAY8"},
                                    {0x97, "NEXT_BUFFER"},
                                    {'d', "DICT"},
                                    {'l', "LIST"},
                                    {0x98, "READONLY_BUFFER"}};
  for (const known& k : names)
    if (k.code == code) return std::string(k.name);
  constexpr std::string_view digits = "0123456789abcdef";
  return std::string("0x") + digits[code >> 4] + digits[code & 15];
}

}  // namespace mlmamba::detail
