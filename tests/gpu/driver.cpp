// libcuda.so without a GPU: device memory is the host's, and kernels run on the CPU, compiled by g++ from the sources
// that compiler.cpp kept. One launch at a time, so that results are the same on every run.
//
// EMULATED_GPU_DIR       folder of sources and of what they are compiled to
// EMULATED_GPU_COMPILER  g++ with its options; the header is compiled already, in the folders `waiting` and `plain`
// EMULATED_GPU_MEMORY_MB memory of the device (4096); what is allocated is filled with NaNs
// EMULATED_GPU_LAUNCHES  file that launches of each kernel, and the bytes of their arrays, are written to
// EMULATED_GPU_COMPUTE   `off`: kernels are counted, not run, and memory is filled with zeros
#include "api.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <map>
#include <mutex>
#include <regex>
#include <sstream>
#include <string>
#include <unistd.h>
#include <vector>

typedef void (*Entry)(void **arguments, const unsigned *grid, const unsigned *block, unsigned shared);
struct Module {
  std::string path;
};
struct Array {
  size_t argument, element_size;
  bool is_read, is_written;
};
struct Function {
  std::string name; // with its source's digest: kernels of one name differ in what they were compiled for
  Entry entry;
  std::vector<Array> arrays;
  size_t info, lengths; // place of the argument with all sizes, and of the arrays' lengths in it
};
struct Stream {};
struct Event {};
struct Context {};

static std::recursive_mutex mutex;
typedef std::lock_guard<std::recursive_mutex> Guard;
static std::map<CUdeviceptr, size_t> memory; // start and size of every block that is allocated
static size_t used;

static std::string variable(const char *name, const char *otherwise = "") {
  const char *value = getenv(name);
  return value && *value ? value : otherwise;
}

static bool computes() {
  static bool is_on = variable("EMULATED_GPU_COMPUTE") != "off";
  return is_on;
}

static size_t total_memory() {
  static size_t bytes = (size_t)atol(variable("EMULATED_GPU_MEMORY_MB", "4096").c_str()) << 20;
  return bytes;
}

// What programs have done to the device: tests compare it with bounds.
struct Counts {
  long launches, uploads, downloads, waits, uploaded_bytes, downloaded_bytes, kernel_bytes;
  long most_memory; // that was allocated at once, in bytes
};
static Counts counts;
extern "C" const Counts *emulated_gpu_counts() { return &counts; }

// A kernel that is wrong on purpose: all it writes is 0.1 % too large, or 0.001 where it is all zeros.
static std::string planted;
extern "C" void emulated_gpu_plant(const char *kernel) {
  Guard guard(mutex);
  planted = kernel;
}

// Launches by kernel with the bytes of their arrays, for people: one line each, when the process ends.
static struct Launches {
  std::map<std::string, std::pair<long, long>> by_kernel;
  ~Launches() {
    std::string file = variable("EMULATED_GPU_LAUNCHES");
    if (file.empty()) return;
    std::ofstream out(file, std::ios::app);
    for (auto &kernel : by_kernel) out << kernel.second.first << "\t" << kernel.second.second << "\t" << kernel.first << "\n";
  }
} launches;

// Calls a function with the name of each kernel that has been launched.
extern "C" void emulated_gpu_kernels(void (*visit)(const char *name, void *), void *visitor) {
  Guard guard(mutex);
  for (auto &kernel : launches.by_kernel) visit(kernel.first.c_str(), visitor);
}

static CUresult complain(const char *what) {
  fprintf(stderr, "emulated GPU: %s\n", what);
  return CUDA_ERROR_INVALID_VALUE;
}

static bool is_inside(CUdeviceptr start, size_t size) {
  auto block = memory.upper_bound(start);
  if (block == memory.begin()) return false;
  --block;
  return start + size <= block->first + block->second;
}

static CUresult allocate(CUdeviceptr *out, size_t size) {
  Guard guard(mutex);
  void *block = nullptr;
  if (used + size > total_memory() || posix_memalign(&block, 512, size + 512)) return CUDA_ERROR_OUT_OF_MEMORY;
  memset(block, computes() ? 0xff : 0, size + 512); // all ones are a NaN: who reads what nobody wrote is found out
  memory[(CUdeviceptr)block] = size;
  used += size;
  counts.most_memory = std::max(counts.most_memory, (long)used);
  *out = (CUdeviceptr)block;
  return CUDA_SUCCESS;
}

static CUresult release(CUdeviceptr start) {
  Guard guard(mutex);
  auto block = memory.find(start);
  if (block == memory.end()) return complain("memory is given back that was not allocated");
  used -= block->second;
  memory.erase(block);
  free((void *)start);
  return CUDA_SUCCESS;
}

static CUresult upload(CUdeviceptr to, const void *from, size_t size) {
  Guard guard(mutex);
  if (!is_inside(to, size)) return complain("an upload goes beyond its memory");
  counts.uploads++, counts.uploaded_bytes += size;
  memcpy((void *)to, from, size);
  return CUDA_SUCCESS;
}

static CUresult download(void *to, CUdeviceptr from, size_t size) {
  Guard guard(mutex);
  if (!is_inside(from, size)) return complain("a download goes beyond its memory");
  counts.downloads++, counts.downloaded_bytes += size;
  memcpy(to, (void *)from, size);
  return CUDA_SUCCESS;
}

static std::string text_of(const std::string &file) {
  std::stringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

static size_t size_of(std::string type) {
  size_t count = 1, at = type.rfind('_');
  if (at != std::string::npos) count = atol(type.c_str() + at + 1), type.resize(at);
  bool is_small = type.find('8') != std::string::npos || type == "bool", is_half = type.find("16") != std::string::npos;
  return count * (is_small ? 1 : is_half ? 2 : type.find("64") != std::string::npos || type == "double" ? 8 : 4);
}

// Learns from a kernel's source which arrays it takes, and where their lengths are told.
static void read_signature(const std::string &source, Function &function) {
  size_t start = source.find("__global__"), end = source.find(")\n{", start), body = end;
  if (end == std::string::npos) end = body = source.find(") {", start);
  const std::string head = source.substr(start, end - start), rest = source.substr(body);
  std::regex argument("(const )?(\\w+)\\* (?:__restrict__ )?(buffer_\\d+|dynamic_meta)");
  for (std::sregex_iterator it(head.begin(), head.end(), argument), none; it != none; ++it) {
    function.info++;
    if ((*it)[3] == "dynamic_meta") continue;
    bool is_written = !(*it)[1].matched, is_read = !is_written || rest.find("= " + it->str(3) + "[") != std::string::npos;
    function.arrays.push_back({function.info - 1, size_of((*it)[2]), is_read, is_written});
  }
  size_t fields = source.find("struct info_st"), meta = source.find("static_meta[", fields);
  if (fields == std::string::npos || meta == std::string::npos) { function.arrays.clear(); return; }
  const std::string before = source.substr(fields, meta - fields);
  std::regex scalars("(\\w+) scalars_\\w+\\[(\\d+)\\]");
  for (std::sregex_iterator it(before.begin(), before.end(), scalars), none; it != none; ++it)
    function.lengths += size_of((*it)[1]) * atol((*it)[2].str().c_str());
  function.lengths += 4 * function.arrays.size(); // behind the sizes of their buffers
}

// Compiles a kernel for the host, unless that was done before; the shared object's path, or nothing.
static std::string compile(const std::string &path, const char *name) {
  std::string object = path + ".so";
  if (!access(object.c_str(), R_OK)) return object;
  OwnFiles files;
  const std::string text = text_of(path + ".cu"), part = path + "." + std::to_string(getpid());
  bool waits = text.find("__sync") != std::string::npos || text.find("_sync(") != std::string::npos;
  std::ofstream(part + ".cpp") << text << "\nEMULATED_ENTRY(" << name << ")\n";
  std::string include = variable("EMULATED_GPU_DIR") + (waits ? "/waiting" : "/plain");
  std::string command = variable("EMULATED_GPU_COMPILER") + (waits ? " -DTHREADS_WAIT=1" : " -DTHREADS_WAIT=0");
  command += " -shared -I'" + include + "' -o '" + part + ".so' '" + part + ".cpp'";
  int failed = system(command.c_str());
  unlink((part + ".cpp").c_str());
  if (failed) return "";
  rename((part + ".so").c_str(), object.c_str());
  return object;
}

extern "C" {
CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *version) { *version = 13000; return CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int *count) { *count = 1; return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int index) { *device = index; return CUDA_SUCCESS; }
CUresult cuDeviceGetName(char *name, int size, CUdevice) { snprintf(name, size, "emulated GPU"); return CUDA_SUCCESS; }
CUresult cuDeviceGetUuid_v2(CUuuid *id, CUdevice) { memset(id, 7, sizeof *id); return CUDA_SUCCESS; }
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice) { *bytes = total_memory(); return CUDA_SUCCESS; }

// Those of a GPU of 2022 (compute capability 9.0).
CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice) {
  switch (attribute) {
    case COMPUTE_CAPABILITY_MAJOR: *value = 9; break;
    case WARP_SIZE: *value = 32; break;
    case MAX_SHARED_MEMORY_PER_BLOCK: *value = 49152; break;
    case MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = 232448; break;
    case MAX_THREADS_PER_BLOCK: case MAX_BLOCK_DIM_X: case MAX_BLOCK_DIM_Y: *value = 1024; break;
    case MAX_BLOCK_DIM_Z: *value = 64; break;
    case MAX_GRID_DIM_X: *value = 2147483647; break;
    case MAX_GRID_DIM_Y: case MAX_GRID_DIM_Z: *value = 65535; break;
    case MULTIPROCESSOR_COUNT: *value = 132; break;
    case MEMORY_POOLS_SUPPORTED: case UNIFIED_ADDRESSING: *value = 1; break;
    default: *value = 0;
  }
  return CUDA_SUCCESS;
}

static Context context;
CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice) { *out = &context; return CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) { return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxGetCurrent(CUcontext *out) { *out = &context; return CUDA_SUCCESS; }
CUresult cuCtxSynchronize() { Guard guard(mutex); counts.waits++; return CUDA_SUCCESS; }

CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
  Guard guard(mutex);
  *total = total_memory();
  *free = *total - used;
  return CUDA_SUCCESS;
}
CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t size) { return allocate(out, size); }
CUresult cuMemAllocAsync(CUdeviceptr *out, size_t size, CUstream) { return allocate(out, size); }
CUresult cuMemFree_v2(CUdeviceptr start) { return release(start); }
CUresult cuMemFreeAsync(CUdeviceptr start, CUstream) { return release(start); }
CUresult cuMemAllocHost_v2(void **out, size_t size) { return posix_memalign(out, 512, size + 512) ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS; }
CUresult cuMemFreeHost(void *block) { free(block); return CUDA_SUCCESS; }
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, CUstream) { return upload(to, from, size); }
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, CUstream) { return download(to, from, size); }
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream) { memmove((void *)to, (void *)from, size); return CUDA_SUCCESS; }
CUresult cuMemsetD8Async(CUdeviceptr start, unsigned char value, size_t size, CUstream) { memset((void *)start, value, size); return CUDA_SUCCESS; }

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *copy, CUstream) {
  bool is_upload = copy->dstMemoryType == CU_MEMORYTYPE_DEVICE;
  auto from = copy->srcMemoryType == CU_MEMORYTYPE_HOST ? (const char *)copy->srcHost : (const char *)copy->srcDevice;
  auto to = is_upload ? (char *)copy->dstDevice : (char *)copy->dstHost;
  size_t width = copy->WidthInBytes, from_pitch = copy->srcPitch ? copy->srcPitch : width, to_pitch = copy->dstPitch ? copy->dstPitch : width;
  if (from_pitch < width || to_pitch < width) return complain("rows of a copy overlap");
  Guard guard(mutex);
  (is_upload ? counts.uploads : counts.downloads)++;
  (is_upload ? counts.uploaded_bytes : counts.downloaded_bytes) += width * copy->Height;
  for (size_t row = 0; row < copy->Height; row++) memcpy(to + row * to_pitch, from + row * from_pitch, width);
  return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *out, unsigned) { *out = new Stream; return CUDA_SUCCESS; }
CUresult cuStreamDestroy_v2(CUstream stream) { delete stream; return CUDA_SUCCESS; }
CUresult cuStreamSynchronize(CUstream) { Guard guard(mutex); counts.waits++; return CUDA_SUCCESS; }
CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned) { return CUDA_SUCCESS; }
CUresult cuEventCreate(CUevent *out, unsigned) { *out = new Event; return CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent, CUstream) { return CUDA_SUCCESS; }
CUresult cuEventSynchronize(CUevent) { Guard guard(mutex); counts.waits++; return CUDA_SUCCESS; }
CUresult cuEventDestroy_v2(CUevent event) { delete event; return CUDA_SUCCESS; }

CUresult cuGetErrorName(CUresult error, const char **name) {
  *name = error == CUDA_SUCCESS ? "CUDA_SUCCESS" : error == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_OF_THE_EMULATION";
  return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char **text) { return cuGetErrorName(error, text); }

CUresult cuModuleLoadData(CUmodule *out, const void *image) {
  *out = new Module{(const char *)image};
  return (*out)->path[0] == '/' ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}
CUresult cuModuleUnload(CUmodule module) { delete module; return CUDA_SUCCESS; }

CUresult cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name) {
  Guard guard(mutex);
  const std::string digest = module->path.substr(module->path.rfind('/') + 1);
  auto function = new Function{name + (" " + digest), nullptr, {}, 0, 0};
  read_signature(text_of(module->path + ".cu"), *function);
  *out = function;
  if (!computes()) return CUDA_SUCCESS;
  std::string object = compile(module->path, name);
  void *handle = object.empty() ? nullptr : dlopen(object.c_str(), RTLD_NOW | RTLD_LOCAL);
  void *entry = handle ? dlsym(handle, "emulated_entry") : nullptr;
  if (!entry) {
    fprintf(stderr, "emulated GPU: %s of %s.cu does not run on the host\n", name, module->path.c_str());
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  function->entry = (Entry)entry;
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction, int, int) { return CUDA_SUCCESS; }

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared, CUstream, void **arguments, void **) {
  Guard guard(mutex);
  bool fits = grid_x && grid_y && grid_z && grid_y < 65536 && grid_z < 65536 && block_x * block_y * block_z <= 1024;
  if (!fits) return complain("a launch is larger than the device allows");
  auto lengths = (const uint32_t *)((const char *)arguments[function->info] + function->lengths);
  long bytes = 0;
  for (size_t i = 0; i < function->arrays.size(); i++) {
    auto &array = function->arrays[i];
    bytes += lengths[i] * array.element_size * (array.is_read + array.is_written);
  }
  counts.launches++, counts.kernel_bytes += bytes;
  auto &sums = launches.by_kernel[function->name];
  sums.first++, sums.second += bytes;
  unsigned grid[3] = {grid_x, grid_y, grid_z}, block[3] = {block_x, block_y, block_z};
  if (!function->entry) return CUDA_SUCCESS;
  function->entry(arguments, grid, block, shared);
  if (function->name != planted) return CUDA_SUCCESS;
  for (size_t i = 0; i < function->arrays.size(); i++) {
    auto &array = function->arrays[i];
    auto values = *(float **)arguments[array.argument];
    size_t count = array.is_written ? lengths[i] * array.element_size / sizeof(float) : 0;
    bool is_zero = std::all_of(values, values + count, [](float value) { return value == 0; });
    for (size_t j = 0; j < count; j++) values[j] = is_zero ? 0.001f : values[j] * 1.001f;
  }
  return CUDA_SUCCESS;
}
}
