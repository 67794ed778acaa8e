// Package pytorchddpm reads the checkpoints of github.com/w86763777/pytorch-ddpm, the
// PyTorch DDPM that most CIFAR-10 experiments (those of AGR too) are built on: ckpt.pt of
// its main.py, with net_model and ema_model, or one model's state dictionary alone.
//
// Its one idea: that UNet is diffusers' UNet2DModel under other names (Names), with the
// sines and cosines of the timestep interleaved. So a checkpoint becomes what diffusers
// would have stored: a configuration, which is worked out from names and shapes, a
// scheduler, and weights under diffusers' keys. What a file does not say (dropout, betas)
// has main.py's defaults.
//
// It reads no optimizer state and writes nothing.
package pytorchddpm
