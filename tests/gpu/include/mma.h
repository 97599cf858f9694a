// CUDA's matrix products of a warp in TF32 for the host: every lane holds whole matrices, and the first one multiplies. Bits
// that TF32 has not are cut off, as tensor cores do it: who does not round beforehand is found out.
#pragma once
namespace nvcuda { namespace wmma {
struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
namespace precision { struct tf32; }
enum layout_t { mem_row_major, mem_col_major };

static inline float __float_to_tf32(float x) {
  unsigned n = __float_as_uint(x);
  return std::isfinite(x) ? __uint_as_float((n + 0x1000) & 0xffffe000) : x; // to the nearest, halves away from zero
}

template <class Use, int M, int N, int K> struct Shape;
template <int M, int N, int K> struct Shape<matrix_a, M, N, K> { enum { ROWS = M, COLUMNS = K }; };
template <int M, int N, int K> struct Shape<matrix_b, M, N, K> { enum { ROWS = K, COLUMNS = N }; };
template <int M, int N, int K> struct Shape<accumulator, M, N, K> { enum { ROWS = M, COLUMNS = N }; };
template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment : Shape<Use, M, N, K> {
  typedef Shape<Use, M, N, K> S;
  float x[S::ROWS * S::COLUMNS]; // row by row
};

template <class Fragment> static void fill_fragment(Fragment &to, float value) {
  for (float &x : to.x) x = value;
}

template <class Fragment> static void load(Fragment &to, const float *from, unsigned pitch, bool by_rows) {
  if ((uintptr_t)from % 32 || pitch % 4) { fprintf(stderr, "emulated GPU: a matrix is not aligned\n"); abort(); }
  __syncwarp();
  for (int i = 0; i < Fragment::ROWS; i++)
    for (int j = 0; j < Fragment::COLUMNS; j++)
      to.x[i * Fragment::COLUMNS + j] = by_rows ? from[i * pitch + j] : from[j * pitch + i];
  __syncwarp();
}
template <class Use, int M, int N, int K, class T>
static void load_matrix_sync(fragment<Use, M, N, K, T, row_major> &to, const float *from, unsigned pitch) { load(to, from, pitch, true); }
template <class Use, int M, int N, int K, class T>
static void load_matrix_sync(fragment<Use, M, N, K, T, col_major> &to, const float *from, unsigned pitch) { load(to, from, pitch, false); }

template <int M, int N, int K>
static void store_matrix_sync(float *to, const fragment<accumulator, M, N, K, float> &from, unsigned pitch, layout_t layout) {
  if ((uintptr_t)to % 32 || pitch % 4) { fprintf(stderr, "emulated GPU: a matrix is not aligned\n"); abort(); }
  __syncwarp();
  if (lane() == 0)
    for (int i = 0; i < M; i++)
      for (int j = 0; j < N; j++) to[layout == mem_row_major ? i * pitch + j : j * pitch + i] = from.x[i * N + j];
  __syncwarp();
}

template <int M, int N, int K, class LA, class LB>
static void mma_sync(fragment<accumulator, M, N, K, float> &to, const fragment<matrix_a, M, N, K, precision::tf32, LA> &a,
                     const fragment<matrix_b, M, N, K, precision::tf32, LB> &b, const fragment<accumulator, M, N, K, float> &c) {
  static float sums[32][M * N]; // of each warp
  auto cut = [](float x) { return __uint_as_float(__float_as_uint(x) & 0xffffe000); };
  float *result = sums[current / 32];
  __syncwarp();
  if (lane() == 0)
    for (int i = 0; i < M; i++)
      for (int j = 0; j < N; j++) {
        float sum = c.x[i * N + j];
        for (int k = 0; k < K; k++) sum += cut(a.x[i * K + k]) * cut(b.x[k * N + j]);
        result[i * N + j] = sum;
      }
  __syncwarp();
  for (int i = 0; i < M * N; i++) to.x[i] = result[i];
  __syncwarp();
}
} }
