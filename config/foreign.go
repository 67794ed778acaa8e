package config

// other is the key that another trainer's setting corresponds to, with what a
// person who comes from there has to know.
type other struct{ key, note string }

// foreign has the settings of other trainers, launchers and libraries, as far as
// their names are not ours.
var foreign = func() map[string]other {
	table := map[string]other{}
	for _, e := range []struct {
		key, note string
		names     []string
	}{
		{"lr.base", "", []string{"learning_rate", "lr", "base_lr", "base_learning_rate", "max_lr", "peak_lr", "init_lr", "initial_lr"}},
		{"lr.min", "", []string{"min_lr", "eta_min", "lr_min", "final_lr", "end_lr"}},
		{"lr.warmup_steps", "", []string{"warmup", "lr_warmup", "lr_warmup_steps", "num_warmup_steps", "warmup_iters", "warmup_epochs", "warmup_ratio"}},
		{"lr.schedule", "", []string{"lr_scheduler", "lr_scheduler_type", "lr_schedule", "lr_policy", "scheduler", "scheduler_type"}},
		{
			"train.global_batch", "(the sum over all workers)",
			[]string{"batch_size", "batchsize", "batch", "bs", "train_batch_size", "global_batch_size", "total_batch_size", "effective_batch_size"},
		},
		{
			"train.chunk", "(images of one pass; train.global_batch stays the same, so there are no accumulation steps to set)",
			[]string{
				"gradient_accumulation_steps", "grad_accumulation_steps", "grad_accum", "grad_accum_steps", "accumulate_grad_batches", "accumulation_steps",
				"accum_steps", "iters_to_accumulate", "num_microbatches",
			},
		},
		{
			"train.chunk", "(images of one pass; train.global_batch is the sum over all workers)",
			[]string{"micro_batch_size", "microbatch", "microbatch_size", "per_device_train_batch_size", "per_gpu_batch_size", "train_micro_batch_size_per_gpu", "local_batch_size", "mini_batch_size"},
		},
		{
			"train.steps", "(agrdist counts steps: epochs x images / train.global_batch)",
			[]string{"epochs", "epoch", "num_epochs", "max_epochs", "n_epochs", "nepochs", "num_train_epochs", "total_epochs"},
		},
		{"train.steps", "", []string{
			"max_steps", "num_steps", "total_steps", "n_steps", "train_steps", "training_steps", "max_train_steps", "num_train_steps", "num_training_steps",
			"iterations", "iters", "n_iters", "max_iters", "num_iterations", "max_iterations", "train_iters", "lr_anneal_steps",
		}},
		{"train.precision", "", []string{"mixed_precision", "fp16", "bf16", "fp32", "use_fp16", "use_bf16", "half", "amp", "use_amp", "dtype", "torch_dtype", "autocast"}},
		{"train.clip_grad_norm", "", []string{"max_grad_norm", "grad_clip", "gradient_clip", "gradient_clip_val", "gradient_clipping", "clip_grad", "clip_norm", "grad_norm", "max_norm"}},
		{"train.ema_decay", "", []string{"ema", "ema_rate", "use_ema", "ema_beta", "ema_max_decay", "model_ema_decay"}},
		{"train.threads", "", []string{"num_threads", "omp_num_threads", "nthreads", "n_threads", "intra_op_threads"}},
		{
			"cluster.workers", "(worker processes that train; loading data needs no processes)",
			[]string{"num_workers", "n_workers", "dataloader_num_workers", "num_data_workers"},
		},
		{"cluster.workers", "", []string{"nproc_per_node", "nproc", "num_processes", "world_size", "gpus", "num_gpus", "n_gpus", "ngpus", "devices", "num_devices"}},
		{"cluster.nodes", "", []string{"nnodes", "num_nodes", "num_machines", "n_nodes"}},
		{"cluster.join", "(the first node prints the line to use)", []string{"master_addr", "master_port", "main_process_ip", "rdzv_endpoint", "rdzv_backend", "init_method", "dist_url", "coordinator_address"}},
		{"cluster.node", "", []string{"node_rank", "machine_rank", "node_name", "hostname"}},
		{"cluster.run_id", "", []string{"run_name", "rdzv_id", "exp_name", "experiment", "experiment_name", "job_id", "job_name", "project_name"}},
		{"cluster.max_restarts", "", []string{"max_restart", "max_failures"}},
		{"cluster.bind", "", []string{"listen", "listen_addr", "bind_address", "interface", "host"}},
		{"allreduce.timeout", "", []string{"ddp_timeout", "nccl_timeout", "dist_timeout", "process_group_timeout"}},
		{"allreduce.bucket_mb", "", []string{"bucket_cap_mb", "bucket_size", "ddp_bucket_cap_mb", "reduce_bucket_size"}},
		{"out", "", []string{
			"output_dir", "output", "outdir", "out_dir", "output_path", "save_dir", "save_path", "log_dir", "logdir", "logging_dir", "work_dir",
			"workdir", "results_dir", "results_folder", "run_dir", "rundir", "exp_dir", "experiment_dir", "default_root_dir", "checkpoint_dir", "ckpt_dir",
		}},
		{"data.dir", "", []string{"data_dir", "data_path", "data_root", "dataset_path", "dataset_dir", "train_data_dir", "train_dir", "image_dir", "image_folder", "root", "folder", "path"}},
		{"data.name", "", []string{"dataset", "dataset_name", "dataset_type", "data"}},
		{"data.flip", "", []string{"random_flip", "hflip", "horizontal_flip", "augment_horizontal_flip", "random_horizontal_flip", "augment"}},
		{"data.holdout", "", []string{"val_split", "validation_split", "val_size", "test_size", "valid_split"}},
		{"model.sample_size", "", []string{"image_size", "img_size", "imgsize", "resolution", "image_resolution", "size"}},
		{"model.block_out_channels", "", []string{"channel_mult", "ch_mult", "dim_mults", "channel_multipliers", "num_channels", "base_channels", "model_channels", "dim", "ch"}},
		{"model.in_channels", "", []string{"out_channels", "channels", "img_channels", "image_channels"}},
		{"model.layers_per_block", "", []string{"num_res_blocks", "n_res_blocks", "num_blocks"}},
		{"model.attention_levels", "", []string{"attention_resolutions", "attn_resolutions", "attn", "down_block_types", "up_block_types"}},
		{"model.attention_head_dim", "", []string{"num_head_channels", "num_heads", "attn_heads", "head_dim"}},
		{"diffusion.timesteps", "", []string{"num_train_timesteps", "num_timesteps", "diffusion_steps", "n_timesteps", "noise_steps", "num_diffusion_timesteps"}},
		{"diffusion.schedule", "", []string{"noise_schedule", "beta_schedule", "beta_start", "beta_end", "noise_scheduler"}},
		{"diffusion.prediction", "", []string{"prediction_type", "objective", "parameterization", "model_mean_type", "predict", "v_prediction", "predict_xstart"}},
		{"optimizer.agr", "", []string{"agr", "use_agr", "enable_agr", "with_agr", "adaptive_gradient_regularization"}},
		{"optimizer.name", "", []string{"optim", "opt", "optimizer", "optimizer_type", "optimizer_name"}},
		{"optimizer.weight_decay", "", []string{"wd", "adam_weight_decay", "l2"}},
		{"optimizer.betas", "", []string{"beta", "beta1", "beta2", "beta3", "adam_beta1", "adam_beta2"}},
		{"optimizer.eps", "", []string{"epsilon", "adam_eps", "adam_epsilon"}},
		{"checkpoint.every", "", []string{
			"save_every", "save_interval", "save_steps", "save_freq", "save_and_sample_every", "checkpointing_steps", "checkpoint_every", "checkpoint_interval",
			"ckpt_every", "ckpt_interval", "save_strategy", "save_model_epochs",
		}},
		{"checkpoint.keep", "", []string{"save_total_limit", "checkpoints_total_limit", "max_to_keep", "keep_last", "keep_checkpoints", "save_top_k"}},
		{"checkpoint.resume", "", []string{"resume_from", "resume_from_checkpoint", "resume_checkpoint", "resume_path", "load_checkpoint", "ckpt_path", "init_from", "restart"}},
		{"sample.every", "", []string{"sample_every", "sample_interval", "sample_freq", "save_images_epochs", "validation_steps"}},
		{"sample.count", "", []string{"num_samples", "n_samples", "n_sample", "eval_batch_size", "num_images", "num_validation_images"}},
		{"sample.steps", "", []string{"num_inference_steps", "inference_steps", "sampling_steps", "sampling_timesteps", "sample_steps", "ddim_steps", "ddpm_num_inference_steps", "timestep_respacing"}},
		{"sample.eta", "", []string{"ddim_eta", "ddim_sampling_eta"}},
		{"sample.sampler", "", []string{"sampling_method", "sample_method", "use_ddim"}},
		{"sample.clip", "", []string{"clip_sample", "clip_denoised", "thresholding"}},
		{"log.every", "", []string{"logging_steps", "log_interval", "log_every", "log_freq", "log_every_n_steps", "print_freq", "log_steps"}},
		{"log.level", "", []string{"log_level", "loglevel", "verbose", "verbosity", "debug"}},
		{"seed", "", []string{"manual_seed", "random_seed", "global_seed", "rng_seed", "data_seed"}},
		{"device", "", []string{"accelerator", "use_cuda", "cuda", "gpu", "use_gpu", "no_cuda", "use_cpu", "cpu"}},
	} {
		for _, n := range e.names {
			table[n] = other{e.key, e.note}
		}
	}
	return table
}()

// foreignSections are other names of our sections.
var foreignSections = map[string]string{
	"training": "train", "trainer": "train", "training_args": "train",
	"dataset": "data", "datasets": "data", "dataloader": "data", "data_loader": "data",
	"unet": "model", "network": "model", "net": "model", "arch": "model", "architecture": "model",
	"optim": "optimizer", "opt": "optimizer", "optimiser": "optimizer", "agr": "optimizer",
	"scheduler": "lr", "lr_scheduler": "lr", "lr_schedule": "lr", "learning_rate": "lr",
	"noise_scheduler": "diffusion", "ddpm": "diffusion", "process": "diffusion", "noise": "diffusion",
	"distributed": "cluster", "dist": "cluster", "launcher": "cluster", "parallel": "cluster",
	"ddp": "allreduce", "nccl": "allreduce", "all_reduce": "allreduce", "comm": "allreduce",
	"checkpointing": "checkpoint", "checkpoints": "checkpoint", "ckpt": "checkpoint", "save": "checkpoint", "saving": "checkpoint",
	"sampling": "sample", "sampler": "sample", "inference": "sample", "generation": "sample",
	"logging": "log", "logger": "log", "logs": "log",
}

// sectionNotes are what a person has to know who used such a name.
var sectionNotes = map[string]string{"agr": "(optimizer.agr: true turns it on)"}
