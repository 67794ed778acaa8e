// The affine map of a GroupNorm that is followed by x (1 + s) + t: for gamma and beta
// [c] and e = [s, t], [samples, 2c], it is gamma (1 + s) and beta (1 + s) + t.

extern "C" __global__ void scale_shift(float* gammas, float* betas, const float* gamma, const float* beta,
                                       const float* e, int samples, int c) {
  i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (i64)samples * c) return;
  i64 n = i / c;
  int channel = (int)(i % c);
  const float* row = e + n * 2 * c;
  float k = 1.0f + row[channel];
  gammas[i] = gamma[channel] * k;
  betas[i] = fmaf(beta[channel], k, row[c + channel]);
}

// scale_shift_grad: a block has 32 channels and all samples, every eighth in a thread;
// dgamma and dbeta are the sums over the samples, added as a tree.
extern "C" __global__ void scale_shift_grad(float* dgamma, float* dbeta, float* de, const float* dgammas,
                                            const float* dbetas, const float* gamma, const float* beta,
                                            const float* e, int samples, int c) {
  __shared__ float room[2][256];
  int channel = blockIdx.x * 32 + threadIdx.x % 32, lane = threadIdx.x / 32;
  float sum[2] = {0, 0};
  if (channel < c) {
    float g = gamma[channel], b = beta[channel];
#pragma unroll 4
    for (int n = lane; n < samples; n += 8) {
      i64 i = (i64)n * c + channel, row = (i64)n * 2 * c + channel;
      float k = 1.0f + e[row], dg = dgammas[i], db = dbetas[i];
      sum[0] = fmaf(dg, k, sum[0]);
      sum[1] = fmaf(db, k, sum[1]);
      de[row] = fmaf(dg, g, db * b);
      de[row + c] = db;
    }
  }
  room[0][threadIdx.x] = sum[0];
  room[1][threadIdx.x] = sum[1];
  for (int d = 128; d >= 32; d /= 2) {
    __syncthreads();
    if ((int)threadIdx.x < d) {
      room[0][threadIdx.x] += room[0][threadIdx.x + d];
      room[1][threadIdx.x] += room[1][threadIdx.x + d];
    }
  }
  if (lane == 0 && channel < c) {
    dgamma[channel] = room[0][threadIdx.x];
    dbeta[channel] = room[1][threadIdx.x];
  }
}
