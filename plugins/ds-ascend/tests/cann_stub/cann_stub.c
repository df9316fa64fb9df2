/* A stub of CANN: what torch_npu needs to load and to move memory, on a host without a card.

   Device memory is host memory, and what is queued is done at once. No operator runs: whatever is
   not written here fails with FEATURE_NOT_SUPPORT, and CANN's last message names it. The
   declarations are those of the headers in the torch_npu wheel. Environment variables say what the
   device is and does wrong: CANN_STUB_SOC, CANN_STUB_DEVICES and CANN_STUB_MEMORY (bytes). */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <acl/acl.h>
#include <acl/acl_op_compiler.h>
#include <acl/error_codes/rt_error_codes.h>

typedef struct Block {
    struct Block *next;
    void *start;
    size_t size;
} Block;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Block *blocks;
static size_t in_use;
static int64_t options[ACL_OPT_STRONG_CONSISTENCY + 1];
static _Thread_local int32_t current_device = -1;
static _Thread_local char message[256];

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}

static aclError fail(aclError code, const char *what) {
    snprintf(message, sizeof message, "[stub of CANN] %s", what);
    return code;
}

/* Called by what is generated for each function that is not here. */
int cann_stub_refuses(const char *name) {
    char what[200];
    snprintf(what, sizeof what, "%s is not in the stub", name);
    return fail(ACL_ERROR_RT_FEATURE_NOT_SUPPORT, what);
}

const char *aclGetRecentErrMsg(void) {
    return message[0] ? message : NULL;
}

/* Start and end */

aclError aclInit(const char *config) {
    (void)config;
    return ACL_SUCCESS;
}

aclError aclFinalize(void) {
    return ACL_SUCCESS;
}

void aclAppLog(aclLogLevel level, const char *function, const char *file, uint32_t line,
               const char *format, ...) {
    (void)level, (void)function, (void)file, (void)line, (void)format;
}

aclError aclSetCompileopt(aclCompileOpt option, const char *value) {
    (void)option, (void)value;
    return ACL_SUCCESS;
}

aclError aclrtGetSysParamOpt(aclSysParamOpt option, int64_t *value) {
    *value = option <= ACL_OPT_STRONG_CONSISTENCY ? options[option] : 0;
    return ACL_SUCCESS;
}

aclError aclrtSetSysParamOpt(aclSysParamOpt option, int64_t value) {
    if (option <= ACL_OPT_STRONG_CONSISTENCY)
        options[option] = value;
    return ACL_SUCCESS;
}

aclError aclrtCtxSetSysParamOpt(aclSysParamOpt option, int64_t value) {
    return aclrtSetSysParamOpt(option, value);
}

aclError aclrtSetOpWaitTimeout(uint32_t seconds) {
    (void)seconds;
    return ACL_SUCCESS;
}

aclError aclrtSetOpExecuteTimeOut(uint32_t seconds) {
    (void)seconds;
    return ACL_SUCCESS;
}

/* Devices */

const char *aclrtGetSocName(void) {
    const char *name = getenv("CANN_STUB_SOC");
    return name ? name : "Ascend910B1";
}

aclError aclrtGetDeviceCount(uint32_t *count) {
    *count = (uint32_t)setting("CANN_STUB_DEVICES", 1);
    return ACL_SUCCESS;
}

aclError aclrtSetDevice(int32_t device) {
    if (device < 0 || device >= setting("CANN_STUB_DEVICES", 1))
        return fail(ACL_ERROR_RT_INVALID_DEVICEID, "there is no such device");
    current_device = device;
    return ACL_SUCCESS;
}

aclError aclrtGetDevice(int32_t *device) {
    if (current_device < 0)
        return fail(ACL_ERROR_RT_CONTEXT_NULL, "no device is set");
    *device = current_device;
    return ACL_SUCCESS;
}

aclError aclrtResetDevice(int32_t device) {
    (void)device;
    current_device = -1;
    return ACL_SUCCESS;
}

/* A context is its device's number, counted from 1. */
aclError aclrtGetCurrentContext(aclrtContext *context) {
    if (current_device < 0)
        return fail(ACL_ERROR_RT_CONTEXT_NULL, "no device is set");
    *context = (aclrtContext)(intptr_t)(current_device + 1);
    return ACL_SUCCESS;
}

aclError aclrtSetCurrentContext(aclrtContext context) {
    return aclrtSetDevice((int32_t)(intptr_t)context - 1);
}

/* Whether float16 overflow saturates. No operator runs here that could. */
aclError aclrtSetDeviceSatMode(aclrtFloatOverflowMode mode) {
    (void)mode;
    return ACL_SUCCESS;
}

aclError aclrtSynchronizeDevice(void) {
    return ACL_SUCCESS;
}

/* Memory */

aclError aclrtGetMemInfo(aclrtMemAttr kind, size_t *free_bytes, size_t *total) {
    (void)kind;
    *total = (size_t)setting("CANN_STUB_MEMORY", 1L << 30);
    *free_bytes = *total - in_use;
    return ACL_SUCCESS;
}

aclError aclrtMalloc(void **pointer, size_t size, aclrtMemMallocPolicy policy) {
    (void)policy;
    Block *made = malloc(sizeof *made);
    size_t total = (size_t)setting("CANN_STUB_MEMORY", 1L << 30);
    aclError code = ACL_SUCCESS;
    pthread_mutex_lock(&lock);
    if (!made || size > total - in_use || posix_memalign(&made->start, 512, size ? size : 1)) {
        free(made);
        code = fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "the device is out of memory");
    } else {
        /* What was never written is no number, as on a card it is anything. */
        memset(made->start, 0xff, size);
        made->size = size;
        made->next = blocks;
        blocks = made;
        in_use += size;
        *pointer = made->start;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

aclError aclrtMallocAlign32(void **pointer, size_t size, aclrtMemMallocPolicy policy) {
    return aclrtMalloc(pointer, size, policy);
}

aclError aclrtFree(void *pointer) {
    int found_it = 0;
    pthread_mutex_lock(&lock);
    for (Block **at = &blocks; *at; at = &(*at)->next) {
        Block *found = *at;
        if (found->start == pointer) {
            *at = found->next;
            in_use -= found->size;
            free(found->start);
            free(found);
            found_it = 1;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return found_it ? ACL_SUCCESS : fail(ACL_ERROR_RT_PARAM_INVALID, "this was not allocated");
}

aclError aclrtMallocHost(void **pointer, size_t size) {
    return posix_memalign(pointer, 512, size ? size : 1)
               ? fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "the host is out of memory")
               : ACL_SUCCESS;
}

aclError aclrtFreeHost(void *pointer) {
    free(pointer);
    return ACL_SUCCESS;
}

aclError aclrtMemcpy(void *to, size_t room, const void *from, size_t size, aclrtMemcpyKind kind) {
    (void)kind;
    if (size > room)
        return fail(ACL_ERROR_RT_PARAM_INVALID, "a copy is larger than its target");
    memmove(to, from, size);
    return ACL_SUCCESS;
}

aclError aclrtMemcpyAsync(void *to, size_t room, const void *from, size_t size,
                          aclrtMemcpyKind kind, aclrtStream stream) {
    (void)stream;
    return aclrtMemcpy(to, room, from, size, kind);
}

aclError aclrtMemset(void *to, size_t room, int32_t value, size_t size) {
    if (size > room)
        return fail(ACL_ERROR_RT_PARAM_INVALID, "a fill is larger than its target");
    memset(to, value, size);
    return ACL_SUCCESS;
}

/* Streams and events: what is queued was done already */

aclError aclrtCreateStreamWithConfig(aclrtStream *stream, uint32_t priority, uint32_t flags) {
    (void)priority, (void)flags;
    *stream = malloc(1);
    return ACL_SUCCESS;
}

aclError aclrtCreateStream(aclrtStream *stream) {
    return aclrtCreateStreamWithConfig(stream, 0, 0);
}

/* Whether a stream keeps the flag of float16 overflow. */
aclError aclrtSetStreamOverflowSwitch(aclrtStream stream, uint32_t on) {
    (void)stream, (void)on;
    return ACL_SUCCESS;
}

aclError aclrtDestroyStream(aclrtStream stream) {
    free(stream);
    return ACL_SUCCESS;
}

aclError aclrtDestroyStreamForce(aclrtStream stream) {
    return aclrtDestroyStream(stream);
}

aclError aclrtSynchronizeStream(aclrtStream stream) {
    (void)stream;
    return ACL_SUCCESS;
}

aclError aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t timeout) {
    (void)stream, (void)timeout;
    return ACL_SUCCESS;
}

aclError aclrtSynchronizeDeviceWithTimeout(int32_t timeout) {
    (void)timeout;
    return ACL_SUCCESS;
}

aclError aclrtStreamQuery(aclrtStream stream, aclrtStreamStatus *status) {
    (void)stream;
    *status = ACL_STREAM_STATUS_COMPLETE;
    return ACL_SUCCESS;
}

aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event) {
    (void)stream, (void)event;
    return ACL_SUCCESS;
}

aclError aclrtCreateEventExWithFlag(aclrtEvent *event, uint32_t flags) {
    (void)flags;
    *event = calloc(1, sizeof(struct timespec));
    return ACL_SUCCESS;
}

aclError aclrtCreateEventWithFlag(aclrtEvent *event, uint32_t flags) {
    return aclrtCreateEventExWithFlag(event, flags);
}

aclError aclrtDestroyEvent(aclrtEvent event) {
    free(event);
    return ACL_SUCCESS;
}

aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream) {
    (void)stream;
    clock_gettime(CLOCK_MONOTONIC, event);
    return ACL_SUCCESS;
}

aclError aclrtResetEvent(aclrtEvent event, aclrtStream stream) {
    (void)event, (void)stream;
    return ACL_SUCCESS;
}

aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus *status) {
    (void)event;
    *status = ACL_EVENT_RECORDED_STATUS_COMPLETE;
    return ACL_SUCCESS;
}

aclError aclrtSynchronizeEvent(aclrtEvent event) {
    (void)event;
    return ACL_SUCCESS;
}

aclError aclrtEventElapsedTime(float *milliseconds, aclrtEvent start, aclrtEvent end) {
    struct timespec *from = start, *to = end;
    *milliseconds =
        (float)((to->tv_sec - from->tv_sec) * 1e3 + (to->tv_nsec - from->tv_nsec) / 1e6);
    return ACL_SUCCESS;
}
