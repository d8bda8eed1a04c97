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

/// A launch of teams of `size` blocks, one for each of n rows.
class team_launch {
 public:
  team_launch(index_t n, int size, unsigned threads, cudaStream_t stream = nullptr) {
    team_.id = cudaLaunchAttributeClusterDimension;
    team_.val.clusterDim.x = unsigned(size), team_.val.clusterDim.y = team_.val.clusterDim.z = 1;
    how_.gridDim = dim3(blocks_for(n * size, 1)), how_.blockDim = dim3(threads);
    how_.stream = stream;
    how_.attrs = &team_;
    how_.numAttrs = size > 1 ? 1 : 0;
  }
  team_launch(const team_launch&) = delete;
  team_launch& operator=(const team_launch&) = delete;

  template <class Op>
  void run(void (*kernel)(Op), const Op& op) const {
    cuda_check(cudaLaunchKernelEx(&how_, kernel, op), Op::name);
  }
  /// How many teams the GPU has room for at the same time; 0 if the code knows no teams.
  template <class Op>
  int at_once(void (*kernel)(Op)) const {
    cudaFuncAttributes a{};
    cuda_check(cudaFuncGetAttributes(&a, kernel), "asking for sm_90 code");
    int n = 0;
    if (a.ptxVersion >= 90 && cudaOccupancyMaxActiveClusters(&n, kernel, &how_) != cudaSuccess) {
      cudaGetLastError();
      n = 0;
    }
    return n;
  }

 private:
  cudaLaunchAttribute team_{};
  cudaLaunchConfig_t how_{};
};

}  // namespace mlmamba::backend::kernels
