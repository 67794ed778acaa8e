import sys

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

out = sys.argv[1]
# every dtype, a scalar, an empty tensor, awkward names
vals = {
 "f64": np.array([[1.5, -2.25, 1e300]], dtype=np.float64),
 "f32": np.array([0.1, -0.0, np.inf, 3.4028235e38], dtype=np.float32).reshape(2,2),
 "f16": np.array([1.0009765625, -65504, 6e-8, np.inf], dtype=np.float16),
 "i64": np.array([-2**63, 2**63-1, 7], dtype=np.int64),
 "i32": np.array([-2**31, 2**31-1], dtype=np.int32),
 "i16": np.array([-2**15, 2**15-1], dtype=np.int16),
 "i8": np.array([-128, 127, 3], dtype=np.int8),
 "u8": np.array([0, 255, 3, 4, 5], dtype=np.uint8),
 "bool": np.array([True, False, True]),
 "scalar": np.array(42.0, dtype=np.float32),
 "empty": np.zeros((2,0,3), dtype=np.float32),
 'quote " <&> snow \u2603 tab \t': np.array([1,2], dtype=np.float32),
}
save_file(vals, f"{out}/all_dtypes.safetensors", metadata={"note": 'a "quoted" \u2603 <value>\n'})
bf = np.array([1.0, -3.140625, 1e-40, np.inf], dtype=ml_dtypes.bfloat16)
save_file({"bf16": bf}, f"{out}/bf16.safetensors")
