// Masks of ChaCha20 (RFC 8439) on a vector, any number of them in one pass over it.
//
// One thread does one block of 64 bytes. It reads its elements once, keeps them as sixteen 32-bit (or eight 64-bit)
// accumulators in registers, adds or subtracts that block of every mask, and writes them back. Keys (8 words each)
// and signs (1 or -1) lie in device memory. Nothing is included: NVRTC needs no headers.

typedef unsigned int u32;
typedef unsigned long long u64;

__device__ __forceinline__ u32 rotate(u32 word, int bits)
{
    return (word << bits) | (word >> (32 - bits));
}

__device__ __forceinline__ void quarter_round(u32 &a, u32 &b, u32 &c, u32 &d)
{
    a += b; d = rotate(d ^ a, 16);
    c += d; b = rotate(b ^ c, 12);
    a += b; d = rotate(d ^ a, 8);
    c += d; b = rotate(b ^ c, 7);
}

// The keystream block number `counter` under a key, with a nonce of zero.
__device__ __forceinline__ void keystream(u32 (&block)[16], const u32 *__restrict__ key, u32 counter)
{
    const u32 constants[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    #pragma unroll
    for (int i = 0; i < 16; ++i)
        block[i] = i < 4 ? constants[i] : i < 12 ? key[i - 4] : i == 12 ? counter : 0;
    #pragma unroll 2
    for (int round = 0; round < 20; round += 2) {
        quarter_round(block[0], block[4], block[8], block[12]);
        quarter_round(block[1], block[5], block[9], block[13]);
        quarter_round(block[2], block[6], block[10], block[14]);
        quarter_round(block[3], block[7], block[11], block[15]);
        quarter_round(block[0], block[5], block[10], block[15]);
        quarter_round(block[1], block[6], block[11], block[12]);
        quarter_round(block[2], block[7], block[8], block[13]);
        quarter_round(block[3], block[4], block[9], block[14]);
    }
    #pragma unroll
    for (int i = 0; i < 13; ++i)
        block[i] += i < 4 ? constants[i] : i < 12 ? key[i - 4] : counter;
}

__device__ __forceinline__ void read(const u32 (&block)[16], int place, u32 &element)
{
    element = block[place];
}

__device__ __forceinline__ void read(const u32 (&block)[16], int place, u64 &element)
{
    element = block[2 * place] | (u64)block[2 * place + 1] << 32;
}

// What one load or store of a thread moves.
template <typename Element> struct alignas(16) Quarter
{
    Element at[16 / sizeof(Element)];
};

template <typename Element>
__device__ __forceinline__ void apply_masks(
    Element *vector, u64 length, const u32 *__restrict__ keys, const int *__restrict__ signs, u32 masks)
{
    const int elements = 64 / sizeof(Element), part = elements / 4;
    const u64 number = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    const u64 start = number * elements;
    if (start >= length)
        return;
    // A slice may begin anywhere, and a wide load may not.
    const bool wide = length - start >= elements && reinterpret_cast<u64>(vector) % sizeof(Quarter<Element>) == 0;
    Quarter<Element> *quarters = reinterpret_cast<Quarter<Element> *>(vector + start);
    Element total[elements];
    #pragma unroll
    for (int i = 0; i < elements; ++i)
        total[i] = 0;
    if (wide) {
        #pragma unroll
        for (int q = 0; q < 4; ++q) {
            const Quarter<Element> quarter = quarters[q];
            #pragma unroll
            for (int i = 0; i < part; ++i)
                total[q * part + i] = quarter.at[i];
        }
    } else {
        #pragma unroll
        for (int i = 0; i < elements; ++i)
            if (start + i < length)
                total[i] = vector[start + i];
    }
    for (u32 mask = 0; mask < masks; ++mask) {
        u32 block[16];
        keystream(block, keys + 8 * mask, (u32)number);
        const Element sign = signs[mask];
        #pragma unroll
        for (int i = 0; i < elements; ++i) {
            Element element;
            read(block, i, element);
            total[i] += sign * element;
        }
    }
    if (wide) {
        #pragma unroll
        for (int q = 0; q < 4; ++q) {
            Quarter<Element> quarter;
            #pragma unroll
            for (int i = 0; i < part; ++i)
                quarter.at[i] = total[q * part + i];
            quarters[q] = quarter;
        }
    } else {
        #pragma unroll
        for (int i = 0; i < elements; ++i)
            if (start + i < length)
                vector[start + i] = total[i];
    }
}

extern "C" __global__ void apply_masks_uint32(u32 *vector, u64 length, const u32 *keys, const int *signs, u32 masks)
{
    apply_masks(vector, length, keys, signs, masks);
}

extern "C" __global__ void apply_masks_uint64(u64 *vector, u64 length, const u32 *keys, const int *signs, u32 masks)
{
    apply_masks(vector, length, keys, signs, masks);
}
