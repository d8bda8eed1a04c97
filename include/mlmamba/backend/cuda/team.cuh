// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Blocks that work together: a cluster, where the GPU and what was compiled for it have them.
#pragma once

#include <cooperative_groups.h>

#include "mlmamba/backend/cuda/launch.cuh"

namespace mlmamba::backend::kernels {

/// The cluster of a block, as the block sees it; elsewhere a block is alone.
struct block_team {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  static __device__ int rank() { return int(cooperative_groups::this_cluster().block_rank()); }
  static __device__ int size() { return int(cooperative_groups::this_cluster().num_blocks()); }
  /// All threads of all blocks are here, and see what the others wrote.
  static __device__ void sync() { cooperative_groups::this_cluster().sync(); }
  /// A shared variable as the first block has it. Before its first use, and before a block ends,
  /// all sync.
  template <class T>
  static __device__ T* of_first(T* shared) {
    return cooperative_groups::this_cluster().map_shared_rank(shared, 0);
  }
#else
  static __device__ int rank() { return 0; }
  static __device__ int size() { return 1; }
  static __device__ void sync() { __syncthreads(); }
  template <class T>
  static __device__ T* of_first(T* shared) {
    return shared;
  }
#endif
};

/// How many blocks can work together in this kernel: 8, or 1.
template <class Op>
int largest_team(void (*kernel)(Op)) {
  cudaFuncAttributes a{};
  cuda_check(cudaFuncGetAttributes(&a, kernel), "asking for sm_90 code");
  return a.ptxVersion >= 90 ? 8 : 1;
}

/// A team of `size` blocks for each of n rows.
template <class Op>
void launch_teams(context<cuda>& ctx, void (*kernel)(Op), index_t n, int size, unsigned threads,
                  const Op& op) {
  if (n <= 0) return;
  cudaLaunchAttribute team{};
  team.id = cudaLaunchAttributeClusterDimension;
  team.val.clusterDim.x = unsigned(size), team.val.clusterDim.y = team.val.clusterDim.z = 1;
  cudaLaunchConfig_t how{};
  how.gridDim = dim3(blocks_for(n * size, 1)), how.blockDim = dim3(threads);
  how.stream = ctx.stream;
  how.attrs = &team;
  how.numAttrs = size > 1 ? 1 : 0;
  cuda_check(cudaLaunchKernelEx(&how, kernel, op), Op::name);
}

}  // namespace mlmamba::backend::kernels
