// libnvrtc.so for the emulated driver: keeps each program's source under its digest, for the driver to run. With
// EMULATED_GPU_NVRTC=FILE, the real library, every program is compiled by that one as well, and must be accepted.
// EMULATED_GPU_COMPILATIONS=FILE is written a line for each program that is compiled.
#include "api.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

struct Program {
  void *real = nullptr;
  std::string source, image, log;
};
typedef Program *nvrtcProgram;

static std::string variable(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}

static void *library() {
  static void *handle = [] {
    std::string file = variable("EMULATED_GPU_NVRTC");
    if (file.empty()) return (void *)nullptr;
    void *handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) { fprintf(stderr, "emulated GPU: %s\n", dlerror()); abort(); }
    return handle;
  }();
  return handle;
}

template <class... A> static int real(const char *name, A... arguments) {
  return ((int (*)(A...))dlsym(library(), name))(arguments...);
}

// FNV-1a, twice from different starts: 128 bits. Of the lines in order, because cubecl declares a kernel's variables in
// another order in each process: it is the same kernel, and is compiled once.
static std::string digest(const std::string &source) {
  std::vector<std::string> lines;
  std::istringstream stream(source);
  for (std::string line; std::getline(stream, line);) lines.push_back(line + "\n");
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (auto &line : lines) text += line;
  char hex[33];
  uint64_t a = 1469598103934665603ull, b = 0x9e3779b97f4a7c15ull;
  for (unsigned char c : text) { a = (a ^ c) * 1099511628211ull; b = (b ^ c) * 0x100000001b3ull + 1; }
  snprintf(hex, sizeof hex, "%016llx%016llx", (unsigned long long)a, (unsigned long long)b);
  return hex;
}

extern "C" {
int nvrtcVersion(int *major, int *minor) { *major = 13; *minor = 0; return 0; }
const char *nvrtcGetErrorString(int error) { return error ? "NVRTC_ERROR" : "NVRTC_SUCCESS"; }

int nvrtcCreateProgram(nvrtcProgram *program, const char *source, const char *name, int count,
                       const char *const *headers, const char *const *names) {
  *program = new Program;
  (*program)->source = source;
  return library() ? real("nvrtcCreateProgram", &(*program)->real, source, name, count, headers, names) : 0;
}

int nvrtcDestroyProgram(nvrtcProgram *program) {
  delete *program;
  *program = nullptr;
  return 0;
}

int nvrtcCompileProgram(nvrtcProgram program, int count, const char *const *options) {
  OwnFiles files;
  std::string folder = variable("EMULATED_GPU_DIR");
  if (folder.empty()) { fprintf(stderr, "emulated GPU: EMULATED_GPU_DIR names no folder\n"); return 1; }
  std::string path = folder + "/" + digest(program->source), part = path + "." + std::to_string(getpid());
  if (access((path + ".cu").c_str(), R_OK)) {
    FILE *file = fopen(part.c_str(), "w");
    if (!file) return 1;
    bool is_whole = fwrite(program->source.data(), 1, program->source.size(), file) == program->source.size();
    if (fclose(file) || !is_whole) return 1;
    rename(part.c_str(), (path + ".cu").c_str());
  }
  program->image = path;
  if (FILE *list = fopen(variable("EMULATED_GPU_COMPILATIONS").c_str(), "a")) {
    fprintf(list, "%s\n", path.c_str());
    fclose(list);
  }
  if (!library() || !access((path + ".accepted").c_str(), R_OK)) return 0;
  int result = real("nvrtcCompileProgram", program->real, count, options);
  size_t size = 0;
  real("nvrtcGetProgramLogSize", program->real, &size);
  program->log.resize(size);
  real("nvrtcGetProgramLog", program->real, &program->log[0]);
  if (result) { fprintf(stderr, "emulated GPU: NVRTC refuses %s.cu:\n%s\n", path.c_str(), program->log.c_str()); return result; }
  fclose(fopen((path + ".accepted").c_str(), "w"));
  return 0;
}

int nvrtcGetPTXSize(nvrtcProgram program, size_t *size) { *size = program->image.size() + 1; return 0; }
int nvrtcGetPTX(nvrtcProgram program, char *out) { memcpy(out, program->image.c_str(), program->image.size() + 1); return 0; }
int nvrtcGetCUBINSize(nvrtcProgram program, size_t *size) { return nvrtcGetPTXSize(program, size); }
int nvrtcGetCUBIN(nvrtcProgram program, char *out) { return nvrtcGetPTX(program, out); }
int nvrtcGetProgramLogSize(nvrtcProgram program, size_t *size) { *size = program->log.size() + 1; return 0; }
int nvrtcGetProgramLog(nvrtcProgram program, char *out) { memcpy(out, program->log.c_str(), program->log.size() + 1); return 0; }
}
