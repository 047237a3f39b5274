#include "kernels/matmul.h"

#include "kernels/cpu/products.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/work.h"
#include "kernels/faulty/product.h"

namespace refute::cpu {

void quantize_activations(const Context& context, MatrixView<const float> x,
                          QuantizedActivations* activations) {
  activations->resize(x.rows, x.columns);
  const std::size_t blocks = activations->blocks();
  // One element costs about four plain operations.
  context.threads().parallel_for(
      x.rows, grain_for(4 * x.columns), [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
          context.simd().quantize_row(
              x.data + t * x.columns, x.columns, activations->q.data() + t * x.columns,
              activations->d.data() + t * blocks, activations->sums.data() + t * blocks);
          if constexpr (kFaultSites) faulty::edit_activations(x, t, *activations);
        }
      });
}

void matmul_quantized(const Context& context, const WeightView& weight,
                      const QuantizedActivations& activations, MatrixView<float> y) {
  CHECK(tensor_type_info(weight.type).is_quantized);
  ProductInput input(activations);
  const Product product{{weight}, 0, activations.rows, y};
  multiply(context, input, {&product, 1});
}

void matmul(const Context& context, const WeightView& weight, MatrixView<const float> x,
            MatrixView<float> y) {
  ProductInput input(x);
  const Product product{{weight}, 0, x.rows, y};
  multiply(context, input, {&product, 1});
}

}  // namespace refute::cpu
