// What a kernel in CUDA C++ needs to be compiled for the host. The blocks of a launch run one after the other, and so do
// the threads of a block: as fibers where they wait for one another, each from one wait to the next. A thread that reads
// shared memory nobody wrote gets a NaN. Races within a block are not found. For x86-64.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__
#define __constant__
#define __grid_constant__
#define __restrict__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __align__(n) __attribute__((aligned(n)))

struct Index { unsigned x, y, z; };
static Index threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

#define VECTORS(T, N) \
  struct T##1 { N x; }; \
  struct __align__(2 * sizeof(N)) T##2 { N x, y; }; \
  struct T##3 { N x, y, z; }; \
  struct __align__(sizeof(N) * 4 > 16 ? 16 : sizeof(N) * 4) T##4 { N x, y, z, w; }; \
  static inline T##2 make_##T##2(N x, N y) { return {x, y}; } \
  static inline T##3 make_##T##3(N x, N y, N z) { return {x, y, z}; } \
  static inline T##4 make_##T##4(N x, N y, N z, N w) { return {x, y, z, w}; }
typedef unsigned int uint;
VECTORS(float, float)
VECTORS(double, double)
VECTORS(int, int)
VECTORS(uint, unsigned)
VECTORS(char, signed char)
VECTORS(uchar, unsigned char)
VECTORS(short, short)
VECTORS(ushort, unsigned short)
VECTORS(long, long)
VECTORS(ulong, unsigned long)

static void (*thread_body)();
static void **launch_arguments;

#if THREADS_WAIT
// A fiber's registers lie on its stack while it waits.
extern "C" __attribute__((visibility("hidden"))) void switch_fiber(void **from, void *to);
asm(R"(
.text
.hidden switch_fiber
.globl switch_fiber
.type switch_fiber,@function
switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

enum State { READY, WAITS_FOR_BLOCK, WAITS_FOR_WARP, DONE };
struct Fiber {
  void *stack;
  State state;
  unsigned exchanges;
  Index index;
};
static const size_t STACK = 256 << 10;
static Fiber fibers[1024];
static char *stacks;
static void *scheduler;
static unsigned current, threads, alive, at_block, alive_in_warp[32], at_warp[32];
static uint64_t slots[2][1024];

static void yield() { switch_fiber(&fibers[current].stack, scheduler); }

static void wake(State state, unsigned first, unsigned count) {
  for (unsigned i = first; i < threads && i < first + count; i++)
    if (fibers[i].state == state) fibers[i].state = READY;
}

static __attribute__((noinline)) void __syncthreads() {
  if (++at_block == alive) { at_block = 0; wake(WAITS_FOR_BLOCK, 0, threads); return; }
  fibers[current].state = WAITS_FOR_BLOCK;
  yield();
}

static __attribute__((noinline)) void __syncwarp(unsigned = ~0u) {
  unsigned warp = current / 32;
  if (++at_warp[warp] == alive_in_warp[warp]) { at_warp[warp] = 0; wake(WAITS_FOR_WARP, warp * 32, 32); return; }
  fibers[current].state = WAITS_FOR_WARP;
  yield();
}

static void run_thread() {
  thread_body();
  unsigned warp = current / 32;
  fibers[current].state = DONE;
  alive--, alive_in_warp[warp]--;
  if (alive && at_block == alive) { at_block = 0; wake(WAITS_FOR_BLOCK, 0, threads); }
  if (alive_in_warp[warp] && at_warp[warp] == alive_in_warp[warp]) { at_warp[warp] = 0; wake(WAITS_FOR_WARP, warp * 32, 32); }
  yield();
  abort();
}

static void start_fiber(unsigned i, Index index) {
  fibers[i] = {nullptr, READY, 0, index};
  alive_in_warp[i / 32]++;
  uint64_t *top = (uint64_t *)(stacks + STACK * (i + 1) - 64 - (i % 16) * 256);
  *--top = 0;
  *--top = (uint64_t)&run_thread; // aligned as after a call
  for (int saved = 0; saved < 6; saved++) *--top = 0;
  fibers[i].stack = top;
}

static void run_block() {
  threads = alive = blockDim.x * blockDim.y * blockDim.z;
  at_block = 0;
  if (!stacks) stacks = (char *)mmap(nullptr, STACK * 1024, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  for (unsigned warp = 0; warp < 32; warp++) at_warp[warp] = alive_in_warp[warp] = 0;
  unsigned i = 0;
  for (unsigned z = 0; z < blockDim.z; z++)
    for (unsigned y = 0; y < blockDim.y; y++)
      for (unsigned x = 0; x < blockDim.x; x++) start_fiber(i++, {x, y, z});
  while (alive) {
    bool has_moved = false;
    for (unsigned i = 0; i < threads; i++) {
      if (fibers[i].state != READY) continue;
      has_moved = true;
      current = i;
      threadIdx = fibers[i].index;
      switch_fiber(&scheduler, fibers[i].stack);
    }
    if (!has_moved) { fprintf(stderr, "emulated GPU: threads of a block wait for one another for ever\n"); abort(); }
  }
}

// Every lane puts its value into a slot; two sets of slots, so that a fast lane does not overwrite what a slow one reads.
template <class T> static T exchange(T value, unsigned source, bool is_valid) {
  static_assert(sizeof(T) <= 8, "a slot has 8 bytes");
  uint64_t *set = slots[fibers[current].exchanges++ & 1];
  unsigned warp = current / 32 * 32;
  memcpy(&set[current], &value, sizeof(T));
  __syncwarp();
  T result = value;
  if (is_valid && source < 32) memcpy(&result, &set[warp + source], sizeof(T));
  return result;
}
static inline unsigned lane() { return current % 32; }
template <class T> static T __shfl_sync(unsigned, T v, int from, int = 32) { return exchange(v, from & 31, true); }
template <class T> static T __shfl_xor_sync(unsigned, T v, int mask, int = 32) { return exchange(v, lane() ^ mask, true); }
template <class T> static T __shfl_up_sync(unsigned, T v, unsigned by, int = 32) { return exchange(v, lane() - by, lane() >= by); }
template <class T> static T __shfl_down_sync(unsigned, T v, unsigned by, int = 32) { return exchange(v, lane() + by, lane() + by < 32); }

static unsigned __ballot_sync(unsigned, int vote) {
  uint64_t *set = slots[fibers[current].exchanges++ & 1];
  unsigned warp = current / 32 * 32, votes = 0;
  set[current] = vote != 0;
  __syncwarp();
  for (unsigned i = 0; i < 32 && warp + i < threads; i++)
    if (fibers[warp + i].state != DONE && set[warp + i]) votes |= 1u << i;
  return votes;
}
static int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
static int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, !vote) == 0; }
static unsigned __activemask() { return ~0u; }
#else
static void run_block() {
  for (unsigned z = 0; z < blockDim.z; z++)
    for (unsigned y = 0; y < blockDim.y; y++)
      for (unsigned x = 0; x < blockDim.x; x++) { threadIdx = {x, y, z}; thread_body(); }
}
#endif
static inline void __threadfence() {}

template <class... A, size_t... I> static inline void call(void (*kernel)(A...), std::index_sequence<I...>) {
  kernel(*(std::remove_reference_t<A> *)launch_arguments[I]...);
}
template <class... A> static inline void call(void (*kernel)(A...)) { call(kernel, std::index_sequence_for<A...>()); }

// Appended to every source: what the driver calls.
#define EMULATED_ENTRY(kernel) \
  alignas(1024) unsigned char dynamic_shared_mem[256 << 10]; \
  extern "C" __attribute__((visibility("default"))) void emulated_entry( \
      void **arguments, const unsigned *grid, const unsigned *block, unsigned shared) { \
    launch_arguments = arguments; \
    thread_body = [] { call(kernel); }; \
    gridDim = {grid[0], grid[1], grid[2]}; \
    blockDim = {block[0], block[1], block[2]}; \
    for (unsigned z = 0; z < grid[2]; z++) \
      for (unsigned y = 0; y < grid[1]; y++) \
        for (unsigned x = 0; x < grid[0]; x++) { \
          blockIdx = {x, y, z}; \
          memset(dynamic_shared_mem, 0xff, shared); \
          run_block(); \
        } \
  }

// Functions of CUDA's mathematical and integer library.
template <class A, class B> using Common = std::common_type_t<A, B>;
template <class A, class B> using Integers = std::enable_if_t<std::is_integral<A>::value && std::is_integral<B>::value, int>;
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline float min(float a, float b) { return fminf(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
template <class A, class B, Integers<A, B> = 0> static inline Common<A, B> max(A a, B b) { return (Common<A, B>)a > (Common<A, B>)b ? a : b; }
template <class A, class B, Integers<A, B> = 0> static inline Common<A, B> min(A a, B b) { return (Common<A, B>)a < (Common<A, B>)b ? a : b; }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanhf(x) tanhf(x)
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fdividef(float x, float y) { return x / y; }
static inline float saturate(float x) { return fminf(fmaxf(x, 0), 1); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }
static inline int __mulhi(int a, int b) { return (int64_t)a * b >> 32; }
static inline unsigned long __umul64hi(unsigned long a, unsigned long b) { return (unsigned __int128)a * b >> 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
template <class To, class From> static inline To bits(From x) { To result; static_assert(sizeof(To) == sizeof(From), "same size"); memcpy(&result, &x, sizeof x); return result; }
static inline float __uint_as_float(unsigned x) { return bits<float>(x); }
static inline unsigned __float_as_uint(float x) { return bits<unsigned>(x); }
static inline float __int_as_float(int x) { return bits<float>(x); }
static inline int __float_as_int(float x) { return bits<int>(x); }
template <class T, class U> static inline T atomicAdd(T *p, U v) { T old = *p; *p = old + (T)v; return old; }
template <class T, class U> static inline T atomicSub(T *p, U v) { T old = *p; *p = old - (T)v; return old; }
template <class T, class U> static inline T atomicMax(T *p, U v) { T old = *p; if ((T)v > old) *p = v; return old; }
template <class T, class U> static inline T atomicMin(T *p, U v) { T old = *p; if ((T)v < old) *p = v; return old; }
template <class T, class U> static inline T atomicExch(T *p, U v) { T old = *p; *p = v; return old; }
template <class T, class U, class V> static inline T atomicCAS(T *p, U expected, V v) { T old = *p; if (old == (T)expected) *p = v; return old; }
using std::abs; // of floats; the C function of the same name takes whole numbers
using std::isfinite;
using std::isinf;
using std::isnan;
