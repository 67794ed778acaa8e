package data_test

import (
	"fmt"

	"github.com/agrdist/agrdist/data"
)

func ExampleOpen() {
	d, err := data.Open(data.DefaultConfig())
	if err != nil {
		panic(err)
	}
	height, width, channels := d.Size()
	fmt.Printf("%s: %d images of %dx%dx%d\n", d.Name(), d.Len(), height, width, channels)

	image := make([]float32, height*width*channels)
	if err := d.Read(image, 0); err != nil {
		panic(err)
	}
	fmt.Printf("a %d:\n", d.Label(0))
	for y := range height {
		fmt.Print("|")
		for x := range width {
			fmt.Printf("%c", " .:oO#"[int((image[y*width+x]+1)/2*5)])
		}
		fmt.Println("|")
	}
	_, err = data.Open(data.Config{Name: "mnist", Dir: "/data"})
	fmt.Println(err)
	// Output:
	// digits: 1797 images of 8x8x1
	// a 0:
	// |  .O:   |
	// |  OOoO. |
	// |  O  o: |
	// | .o  :: |
	// | .:  :: |
	// | .o  o: |
	// |  O.oo  |
	// |  .Oo   |
	// data.name is "mnist"; choose one of digits, cifar10, records, folder, npz
}

func ExampleLoader() {
	d, err := data.Open(data.DefaultConfig())
	if err != nil {
		panic(err)
	}
	loader := data.NewLoader(d, 42, false)

	// Step 100 of a run with a global batch of 4: each worker loads its part.
	const step, globalBatch = 100, 4
	for worker := range int64(2) {
		draws := []int64{step*globalBatch + 2*worker, step*globalBatch + 2*worker + 1}
		images := make([]float32, len(draws)*loader.ImageLen())
		if err := loader.Load(images, draws); err != nil {
			panic(err)
		}
		for _, draw := range draws {
			epoch, index, _ := loader.Sample(draw)
			fmt.Printf("worker %d: draw %d is image %d in epoch %d\n", worker, draw, index, epoch)
		}
	}
	// Output:
	// worker 0: draw 400 is image 3 in epoch 0
	// worker 0: draw 401 is image 450 in epoch 0
	// worker 1: draw 402 is image 1454 in epoch 0
	// worker 1: draw 403 is image 17 in epoch 0
}
